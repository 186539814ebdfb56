"""A snapshot of the embedded store: a folder with a copy of its database and its partitions.

It is cheap: partitions never change, so hard links suffice. The store may stay in use meanwhile, in
this process or another; the snapshot's reader is the only user of its folder.
"""

# Names in the SQL below come from this program alone, never from a request.
# ruff: noqa: S608

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np

from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.receipts import Receipt
from heliometer.migrate.ports import Day, Piece
from heliometer.storage.duckdb import catalog, sql
from heliometer.storage.duckdb.database_copy import DatabaseCopy
from heliometer.storage.duckdb.sources import Partition
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.errors import StoreUnusable

DATABASE = "recent.duckdb"
PARTITIONS = "partitions"


async def take(store: DuckDBStore, folder: Path) -> None:
    """Make ``folder`` a snapshot. Raises OSError, or ``duckdb.Error`` when the disk is full."""

    def keep(copy: DatabaseCopy) -> None:
        (folder / PARTITIONS).mkdir(parents=True, mode=0o700)
        shutil.move(copy.database, folder / DATABASE)
        for path in copy.partitions:
            if path.exists():  # otherwise it is damaged, and set aside
                _link(path, folder / PARTITIONS / path.name)

    await store.backup(keep)


class SnapshotReader:
    """Implements ``migrate.ports.MeasurementSource`` for a snapshot."""

    def __init__(self, folder: Path, memory_bytes: int) -> None:
        """Open the snapshot. Raises StoreUnusable."""
        self._partitions = folder / PARTITIONS
        try:
            self._connection = catalog.open_database(folder / DATABASE, memory_bytes)
            sources = catalog.read_sources(self._connection)
        except (duckdb.Error, catalog.WrongFormat) as error:
            raise StoreUnusable(f"the snapshot cannot be read: {error}") from error
        self.damaged: list[str] = []
        """The problems of the partitions that are left out, a sentence each."""
        self._tables = {
            table: int(self._one(f"SELECT count(*) FROM {table.name}")) for table in sources.tables
        }
        self._whole = [p for p in sources.partitions if self._is_there(p)]
        self._checked: set[int] = set()

    def close(self) -> None:
        """Close the snapshot's database."""
        self._connection.close()

    def days(self) -> list[Day]:
        """All days, oldest first."""
        rows: Counter[int] = Counter()
        names: dict[int, list[str]] = {}
        for table, count in self._tables.items():
            rows[table.day] += count
            names.setdefault(table.day, []).append(f"{table.name}:{count}")
        for partition in self._whole:
            rows[partition.day] += partition.rows
            names.setdefault(partition.day, []).append(partition.sha256)
        return [
            Day(day, rows[day], hashlib.sha256(" ".join(sorted(each)).encode()).hexdigest())
            for day, each in sorted(names.items())
        ]

    def series(self) -> list[Series]:
        """Every series, with its number."""
        return catalog.read_series(self._connection)

    def receipts(self, since_ms: int) -> list[Receipt]:
        """The receipts of requests accepted since then."""
        return catalog.read_receipts(self._connection, since_ms)

    def counts(self, day: int) -> tuple[Int64s, Int64s]:
        """The series that have measurements on a day, by number, and how many each has. The first
        call for a day checks its partitions for damage."""
        self._check(day)
        text = f"SELECT series, count(*) AS n FROM ({self._rows(day)}) GROUP BY 1 ORDER BY 1"
        found = self._connection.execute(text).fetchnumpy()
        return found["series"], found["n"]

    def read(self, piece: Piece) -> Batch:
        """The measurements of a piece, by series and time."""
        condition = f"WHERE series BETWEEN {piece.first} AND {piece.last}"
        text = f"{self._rows(piece.day, condition)} ORDER BY series, ts"
        found = self._connection.execute(text).fetchnumpy()
        return Batch(
            np.ascontiguousarray(found["series"]),
            np.ascontiguousarray(found["ts"]),
            np.ascontiguousarray(found["value"]),
        )

    def _rows(self, day: int, condition: str = "") -> str:
        parts = [
            f"SELECT series, ts, value FROM {table.name} {condition}"
            for table in self._tables
            if table.day == day
        ]
        files = [p for p in self._whole if p.day == day]
        if files:
            names = ", ".join(sql.quoted(str(self._partitions / p.file)) for p in files)
            parts.append(f"SELECT series, ts, value FROM read_parquet([{names}]) {condition}")
        if not parts:
            return "SELECT 0::BIGINT AS series, 0::BIGINT AS ts, 0.0::DOUBLE AS value WHERE false"
        return " UNION ALL ".join(parts)

    def _is_there(self, partition: Partition) -> bool:
        path = self._partitions / partition.file
        if path.exists() and path.stat().st_size == partition.bytes:
            return True
        self.damaged.append(f"{partition.file} is missing or damaged ({partition.rows} rows)")
        return False

    def _check(self, day: int) -> None:
        if day in self._checked:
            return
        self._checked.add(day)
        for partition in [p for p in self._whole if p.day == day]:
            with (self._partitions / partition.file).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != partition.sha256:
                    self._whole.remove(partition)
                    self.damaged.append(f"{partition.file} is damaged ({partition.rows} rows)")

    def _one(self, text: str) -> int:
        rows = self._connection.execute(text).fetchall()
        return int(rows[0][0])


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, target)
