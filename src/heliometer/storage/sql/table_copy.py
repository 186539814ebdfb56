"""Copies all rows of the resource tables to another database, and compares the two."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import Table, func, insert, literal, select, text, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError
from heliometer.migrate.ports import Content, Contents
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tables import Base, EvaluationRow, ProbeRow

ROWS = 1000
"""How many rows are read and written at a time."""
_WRONG_ROW = ("22", "23")
"""Classes of SQLSTATE: values that do not fit, and rows that violate a constraint."""
_BITS = 128

Row = dict[str, Any]


def tables() -> list[Table]:
    """The tables to copy, each after those that it references: all but the health check's."""
    return [t for t in Base.metadata.sorted_tables if t.name != ProbeRow.__tablename__]


class TableCopy:
    """Implements ``migrate.ports.ResourceCopy`` from SQLite to PostgreSQL."""

    def __init__(self, source: Database, target: Database, shards: int) -> None:
        """``shards``: how many shards the target's processes divide the projects into."""
        self._source = source
        self._target = target
        self._shards = shards

    async def source_contents(self) -> Contents:
        """The content of each of the target's tables after copying."""
        async with self._source.read() as connection:
            return await _contents(connection, self._shards)

    async def target_contents(self) -> Contents:
        """The content of each of the target's tables."""
        async with self._target.read() as connection:
            return await _contents(connection)

    async def replace(
        self, may_replace: Callable[[Contents], None], copied: Callable[[int], None]
    ) -> None:
        """Replace the target's content, in one transaction."""
        async with self._source.read() as reading, self._target.write() as writing:
            may_replace(await _contents(writing))
            names = ", ".join(table.name for table in tables())
            await writing.execute(text(f"TRUNCATE TABLE {names}"))
            for table in tables():
                await _copy(reading, writing, table, self._shards, copied)


async def _copy(
    reading: AsyncConnection,
    writing: AsyncConnection,
    table: Table,
    shards: int,
    copied: Callable[[int], None],
) -> None:
    async for rows in _rows(reading, table, shards):
        try:
            await writing.execute(insert(table), rows)
        except DBAPIError as error:
            if str(getattr(error.orig, "sqlstate", ""))[:2] not in _WRONG_ROW:
                raise
            raise HeliometerError(
                Code.INVALID, f"PostgreSQL refuses a row of {table.name}: {error.orig}"
            ) from error
        copied(len(rows))
    serial = table.autoincrement_column
    if serial is not None:
        # The number of the next row; of the first if there are none.
        last = select(func.max(serial)).scalar_subquery()
        sequence = func.pg_get_serial_sequence(table.name, serial.name)
        await writing.execute(
            select(func.setval(sequence, func.coalesce(last, 1), last.is_not(None)))
        )


async def _contents(connection: AsyncConnection, shards: int | None = None) -> Contents:
    found = {}
    for table in tables():
        count = total = 0
        async for rows in _rows(connection, table, shards):
            count += len(rows)
            total += sum(map(_hash, rows))
        found[table.name] = Content(count, f"{total % (1 << _BITS):032x}")
    return found


async def _rows(
    connection: AsyncConnection, table: Table, shards: int | None
) -> AsyncIterator[list[Row]]:
    """Read page by page: PostgreSQL alters no table on which a cursor is open."""
    key = list(table.primary_key.columns)
    wanted = select(*table.columns).order_by(*key).limit(ROWS)
    page = (await connection.execute(wanted)).mappings().all()
    while page:
        rows = [dict(row) for row in page]
        last = [literal(rows[-1][column.name], column.type) for column in key]
        if shards and table.name == EvaluationRow.__tablename__:
            rows = spread(rows, shards)
        yield rows
        later = wanted.where(tuple_(*key) > tuple_(*last))
        page = (await connection.execute(later)).mappings().all()


def spread(rows: Sequence[Row], shards: int) -> list[Row]:
    """The evaluation state of all projects, once for each shard. A shard ignores the alarms that
    are not its own."""
    whole = [row for row in rows if row["id"] == 1]
    return [{**row, "id": shard} for row in whole for shard in range(1, shards + 1)]


def _hash(row: Row) -> int:
    """A digest of a row, independent of the database and its types."""
    values = [v.hex() if isinstance(v, bytes) else v for _, v in sorted(row.items())]
    return int.from_bytes(
        hashlib.blake2b(json.dumps(values).encode(), digest_size=_BITS // 8).digest(), "big"
    )
