"""What the embedded store consists of, as its database remembers it.

Recent measurements lie in arrival order in one table for each UTC day. A finished day, or one
that grew large, is *sealed*: its table becomes a Parquet file sorted by (series, timestamp), a
partition. The database's ``partitions`` table says which files count, so that swapping a table
for a file is one transaction; a file that it does not name does not exist.
"""

# Names in the SQL below come from this program alone, never from a request.
# ruff: noqa: S608

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from heliometer.metrics.model import Series
from heliometer.metrics.receipts import Receipt

FORMAT = 1
"""Version of the layout; a newer one refuses to open."""
DAY_MS = 86_400_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS format (version INTEGER);
CREATE TABLE IF NOT EXISTS probe (at_ms BIGINT);
CREATE TABLE IF NOT EXISTS series (
  id BIGINT, project_id VARCHAR, namespace VARCHAR, dimensions VARCHAR, last_day INTEGER);
CREATE TABLE IF NOT EXISTS receipts (
  project_id VARCHAR, key VARCHAR, fingerprint BLOB, at_ms BIGINT);
CREATE TABLE IF NOT EXISTS partitions (
  day INTEGER, file VARCHAR, rows BIGINT, bytes BIGINT, sha256 VARCHAR);
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Measurements of one day in arrival order; ``number`` tells successive tables apart."""

    day: int
    number: int

    @property
    def name(self) -> str:
        return f"recent_{self.day}_{self.number}"


@dataclass(frozen=True, slots=True)
class Partition:
    """Measurements of one day sorted by (series, timestamp), in a file."""

    day: int
    file: str
    """Date, number and ``parquet``, with dots between. Of a day, no table or partition has the
    number of one that was there before it."""
    rows: int
    bytes: int
    sha256: str

    @property
    def number(self) -> int:
        return int(self.file.split(".")[1])


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that holds measurements, at one moment. Readers work from one such value."""

    tables: tuple[Table, ...] = ()
    partitions: tuple[Partition, ...] = ()
    closed: frozenset[Table] = frozenset()
    """Tables that are being sealed: read, but not appended to."""

    def within(self, start_ms: int, end_ms: int) -> "Sources":
        """Those that may hold measurements of [start, end)."""
        first, last = start_ms // DAY_MS, (end_ms - 1) // DAY_MS
        return Sources(
            tuple(t for t in self.tables if first <= t.day <= last),
            tuple(p for p in self.partitions if first <= p.day <= last),
        )

    def open_table(self, day: int) -> Table | None:
        """The table that the day's measurements are appended to; ``None``: none yet."""
        return next((t for t in self.tables if t.day == day and t not in self.closed), None)

    def next_table(self, day: int) -> Table:
        """A table for the day that never existed: a reader may still look for an earlier one."""
        numbers = [t.number for t in self.tables if t.day == day]
        numbers += [p.number for p in self.partitions if p.day == day]
        return Table(day, max(numbers, default=0) + 1)

    def with_tables(self, tables: Sequence[Table]) -> "Sources":
        """These and more tables."""
        every = sorted({*self.tables, *tables}, key=lambda t: (t.day, t.number))
        return Sources(tuple(every), self.partitions, self.closed)

    def close_tables(self, tables: Sequence[Table]) -> "Sources":
        """These, with nothing more appended to some tables."""
        return Sources(self.tables, self.partitions, self.closed | set(tables))

    def replace(
        self,
        tables: Sequence[Table],
        partitions: Sequence[Partition],
        new: Sequence[Partition] = (),
    ) -> "Sources":
        """These without some tables and partitions, and with new partitions instead."""
        kept = {*(p for p in self.partitions if p not in partitions), *new}
        return Sources(
            tuple(t for t in self.tables if t not in tables),
            tuple(sorted(kept, key=lambda p: (p.day, p.file))),
            self.closed - set(tables),
        )


class WrongFormat(Exception):
    """The files were written by a newer version."""


def open_database(path: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """Open or make the database. Raises WrongFormat, or ``duckdb.Error`` when it cannot."""
    if path.exists() and not path.stat().st_size:
        path.unlink()  # the very first start was interrupted before anything was in it
    connection = duckdb.connect(
        str(path),
        config={
            "memory_limit": f"{memory_bytes >> 20}MiB",
            "temp_directory": str(path.parent / "tmp"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        connection.execute("SET parquet_metadata_cache = true")
        connection.execute(_SCHEMA)
        found = connection.execute("SELECT max(version) FROM format").fetchone()
        version = found[0] if found else None
        if version is None:
            connection.execute("INSERT INTO format VALUES ($1)", [FORMAT])
        elif version > FORMAT:
            raise WrongFormat(
                f"{path} has format {version}, written by a newer version of heliometer; "
                f"this one reads formats up to {FORMAT}"
            )
        return connection
    except BaseException:
        connection.close()
        raise


def read_sources(connection: duckdb.DuckDBPyConnection) -> Sources:
    """The tables and partitions that the database names."""
    names = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'recent\\_%' ESCAPE '\\'"
    ).fetchall()
    tables = []
    for (name,) in names:
        _, day, number = name.split("_")
        tables.append(Table(int(day), int(number)))
    partitions = connection.execute(
        "SELECT day, file, rows, bytes, sha256 FROM partitions ORDER BY day, file"
    ).fetchall()
    return Sources(
        tuple(sorted(tables, key=lambda t: (t.day, t.number))),
        tuple(Partition(*row) for row in partitions),
    )


def insert_series(connection: duckdb.DuckDBPyConnection, series: Sequence[Series]) -> None:
    """Add series, within the caller's transaction."""
    new = {
        "id": np.array([s.id for s in series], dtype=np.int64),
        "project_id": np.array([s.project_id for s in series], dtype=object),
        "namespace": np.array([s.namespace for s in series], dtype=object),
        "dimensions": np.array(
            [json.dumps(s.dimensions, ensure_ascii=False) for s in series], dtype=object
        ),
    }
    connection.execute(
        "INSERT INTO series SELECT id, project_id, namespace, dimensions, NULL FROM new"
    )
    del new  # DuckDB finds it by its name above; linters do not know that


def read_series(connection: duckdb.DuckDBPyConnection) -> list[Series]:
    """Every series, by id."""
    rows = connection.execute(
        "SELECT id, project_id, namespace, dimensions FROM series ORDER BY id"
    ).fetchall()
    return [Series(i, p, n, tuple((k, v) for k, v in json.loads(d))) for i, p, n, d in rows]


def forget_idle_series(
    connection: duckdb.DuckDBPyConnection, sources: Sources, before_day: int
) -> int:
    """Drop series whose last measurement retention has removed; return how many."""
    held = "".join(f" AND id NOT IN (SELECT series FROM {t.name})" for t in sources.tables)
    dropped = connection.execute(
        f"DELETE FROM series WHERE last_day < $1{held} RETURNING id",
        [before_day],
    ).fetchall()
    return len(dropped)


def insert_receipts(connection: duckdb.DuckDBPyConnection, receipts: Sequence[Receipt]) -> None:
    """Add receipts, within the caller's transaction."""
    columns = [[r.project_id, r.encoded_key, r.fingerprint, r.at_ms] for r in receipts]
    # A statement for each would take ten times as long.
    connection.execute(
        "INSERT INTO receipts SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), "
        "unnest($3::BLOB[]), unnest($4::BIGINT[])",
        [list(column) for column in zip(*columns, strict=True)],
    )


def read_receipts(connection: duckdb.DuckDBPyConnection, since_ms: int) -> list[Receipt]:
    """Receipts of requests taken since then."""
    rows = connection.execute(
        "SELECT project_id, key, fingerprint, at_ms FROM receipts WHERE at_ms >= $1", [since_ms]
    ).fetchall()
    return [Receipt.decode(*row) for row in rows]
