"""All rows of the resource tables, from one database to another, and whether two have the same."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table, func, insert, literal, select, text, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tables import Base, EvaluationRow, ProbeRow

ROWS = 1000
"""Rows that are read, and written, at a time."""
_WRONG_ROW = ("22", "23")
"""Classes of SQLSTATE: values that do not fit, and rows that break a rule."""
_BITS = 128

Row = dict[str, Any]


class Content(NamedTuple):
    """What a table has. Two with equal contents have the same rows."""

    rows: int
    digest: str


Contents = Mapping[str, Content]
"""By name of the table."""


def tables() -> list[Table]:
    """Those that move, each after what it refers to. What the health check writes stays."""
    return [t for t in Base.metadata.sorted_tables if t.name != ProbeRow.__tablename__]


async def contents(database: Database, shares: int | None = None) -> Contents:
    """What each table has; with ``shares``, what it has once it has moved. Raises UNAVAILABLE."""
    async with database.read() as connection:
        return await _contents(connection, shares)


def is_empty(found: Contents) -> bool:
    """Whether there is nothing at all."""
    return not any(content.rows for content in found.values())


async def move(
    source: Database,
    target: Database,
    shares: int,
    may_replace: Callable[[Contents], None],
    done: Callable[[int], None],
) -> None:
    """Make the target's tables, in PostgreSQL, have what the source's have: wholly, or as before.

    ``shares``: parts into which the target's processes divide the projects. ``may_replace`` is
    given what the target has, and raises where that must stay. ``done`` is told of rows. Raises
    UNAVAILABLE, and INVALID when PostgreSQL refuses a row.
    """
    async with source.read() as reading, target.write() as writing:
        may_replace(await _contents(writing))
        names = ", ".join(table.name for table in tables())
        await writing.execute(text(f"TRUNCATE TABLE {names}"))
        for table in tables():
            await _copy(reading, writing, table, shares, done)


async def _copy(
    reading: AsyncConnection,
    writing: AsyncConnection,
    table: Table,
    shares: int,
    done: Callable[[int], None],
) -> None:
    async for rows in _rows(reading, table, shares):
        try:
            await writing.execute(insert(table), rows)
        except DBAPIError as error:
            if str(getattr(error.orig, "sqlstate", ""))[:2] not in _WRONG_ROW:
                raise
            raise HeliometerError(
                Code.INVALID, f"PostgreSQL does not take a row of {table.name}: {error.orig}"
            ) from error
        done(len(rows))
    serial = table.autoincrement_column
    if serial is not None:
        # The next row's number; the first's where there are none.
        last = select(func.max(serial)).scalar_subquery()
        sequence = func.pg_get_serial_sequence(table.name, serial.name)
        await writing.execute(
            select(func.setval(sequence, func.coalesce(last, 1), last.is_not(None)))
        )


async def _contents(connection: AsyncConnection, shares: int | None = None) -> Contents:
    found = {}
    for table in tables():
        count = total = 0
        async for rows in _rows(connection, table, shares):
            count += len(rows)
            total += sum(map(_hash, rows))
        found[table.name] = Content(count, f"{total % (1 << _BITS):032x}")
    return found


async def _rows(
    connection: AsyncConnection, table: Table, shares: int | None
) -> AsyncIterator[list[Row]]:
    """Page by page: PostgreSQL changes no table in which a cursor is open."""
    key = list(table.primary_key.columns)
    wanted = select(*table.columns).order_by(*key).limit(ROWS)
    page = (await connection.execute(wanted)).mappings().all()
    while page:
        rows = [dict(row) for row in page]
        last = [literal(rows[-1][column.name], column.type) for column in key]
        if shares and table.name == EvaluationRow.__tablename__:
            rows = spread(rows, shares)
        yield rows
        later = wanted.where(tuple_(*key) > tuple_(*last))
        page = (await connection.execute(later)).mappings().all()


def spread(rows: Sequence[Row], shares: int) -> list[Row]:
    """What the engine of all projects goes on from, for each engine of a share of them. An engine
    leaves out what it reads of alarms that are not its own."""
    whole = [row for row in rows if row["id"] == 1]
    return [{**row, "id": share} for row in whole for share in range(1, shares + 1)]


def _hash(row: Row) -> int:
    """A number for a row, whatever the database and its types."""
    values = [v.hex() if isinstance(v, bytes) else v for _, v in sorted(row.items())]
    return int.from_bytes(
        hashlib.blake2b(json.dumps(values).encode(), digest_size=_BITS // 8).digest(), "big"
    )
