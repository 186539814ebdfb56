"""A consistent copy of the database, with the partitions that belong to it."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from heliometer.storage.duckdb import sql
from heliometer.storage.duckdb.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DatabaseCopy:
    """A copy of the database, the files of its partitions, and how much is in them."""

    database: Path
    partitions: Sequence[Path]
    series: int
    measurements: int


def with_copy(
    writer: Writer, folder: Path, partitions: Path, use: Callable[[DatabaseCopy], T]
) -> T:
    """Copy the database in one transaction and call ``use`` with the copy, which is temporary."""
    with tempfile.TemporaryDirectory(prefix="backup-", dir=folder) as temporary:
        target = Path(temporary) / "recent.duckdb"
        with writer.reading() as cursor:
            source = cursor.execute("SELECT current_database()").fetchall()[0][0]
            cursor.execute(f"ATTACH {sql.quoted(str(target))} AS copy_of_it")
            try:
                cursor.execute(f'COPY FROM DATABASE "{source}" TO copy_of_it')
            finally:
                cursor.execute("DETACH copy_of_it")
        with duckdb.connect(str(target)) as copy:
            files = copy.execute("SELECT file, rows FROM partitions").fetchall()
            series = copy.execute("SELECT count(*) FROM series").fetchall()[0][0]
            recent = copy.execute(
                "SELECT coalesce(sum(estimated_size), 0)::BIGINT FROM duckdb_tables() "
                "WHERE table_name LIKE 'recent\\_%' ESCAPE '\\'"
            ).fetchall()[0][0]
        measurements = recent + sum(rows for _, rows in files)
        return use(DatabaseCopy(target, [partitions / f for f, _ in files], series, measurements))
