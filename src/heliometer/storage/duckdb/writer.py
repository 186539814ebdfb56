"""Changes to the embedded store: one thread, one transaction at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb
import numpy as np

from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt
from heliometer.storage.duckdb import catalog, sql
from heliometer.storage.duckdb.database import Database
from heliometer.storage.duckdb.partition_files import PartitionFiles
from heliometer.storage.duckdb.sources import DAY_MS, Sources, Table


class Writer:
    """Changes the database and ``sources`` together, in the thread of ``executor``."""

    def __init__(self, path: Path, memory_bytes: int, files: PartitionFiles) -> None:
        self._database = Database(path, memory_bytes, self._reopened)
        self._files = files
        self._sources = Sources()
        self.damaged_tables: set[Table] = set()
        """Tables that are left out."""
        self.executor = ThreadPoolExecutor(1, "measurements-write")

    @property
    def sources(self) -> Sources:
        """The present tables and partitions."""
        return self._sources

    def open(self) -> None:
        """Open or create the database. Raises condition.InUse, condition.Damaged,
        catalog.WrongFormat, ``duckdb.Error`` or OSError."""
        connection = self._database.open()
        unused = catalog.read_unused(connection)
        self._sources = self._files.check(catalog.read_sources(connection), unused)
        if unused and not self._files.damaged:
            connection.execute("DELETE FROM unused_files")

    def close(self) -> None:
        """Checkpoint the database and close it."""
        self._database.close()

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A cursor for the calling thread."""
        return self._database.reading()

    def change(
        self, work: Callable[[duckdb.DuckDBPyConnection], None], then: Callable[[Sources], Sources]
    ) -> None:
        """From another thread: run ``work`` as a transaction between appends; once it is committed,
        ``then`` derives the new sources from the present ones."""

        def run() -> None:
            self._database.transaction(work)
            self._sources = then(self._sources)

        self.executor.submit(run).result()

    def append(self, batch: Batch, series: Sequence[Series], receipts: Sequence[Receipt]) -> None:
        """In the writing thread: store everything in one transaction."""
        day = batch.timestamp // DAY_MS
        days = [int(day[0])] if len(day) and day[0] == day.min() == day.max() else None
        if days is None:
            days = [int(d) for d in np.unique(day)]
        target = {d: self._sources.open_table(d) or self._next_table(d) for d in days}
        new = [table for table in target.values() if table not in self._sources.tables]

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            if series:
                catalog.insert_series(connection, series)
            if receipts:
                catalog.insert_receipts(connection, receipts)
            for table in new:
                sql.create_table(connection, table.name)
            for d in days:
                rows = slice(None) if len(days) == 1 else day == d
                arrays = {
                    "series": batch.series[rows],
                    "ts": batch.timestamp[rows],
                    "value": batch.value[rows],
                }
                sql.insert(connection, target[d].name, arrays)

        self._database.transaction(work)
        if new:
            self._sources = self._sources.with_tables(new)

    def probe(self, now_ms: int) -> bool:
        """In the writing thread: write and read back; returns whether the value was read."""

        def write(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute("DELETE FROM probe")
            connection.execute("INSERT INTO probe VALUES ($1)", [now_ms])

        self._database.transaction(write)
        with self._database.reading() as cursor:
            return cursor.execute("SELECT at_ms FROM probe").fetchall() == [(now_ms,)]

    def _next_table(self, day: int) -> Table:
        """A table with a number that none had, damaged ones included."""
        table = self._sources.next_table(day)
        taken = [t.number for t in self.damaged_tables if t.day == day]
        taken += [p.number for p in self._files.damaged if p.day == day]
        return Table(day, max(table.number, max(taken, default=0) + 1))

    def _reopened(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The sources after the database was reopened: those that it names, except damaged ones.
        Tables that are being sealed stay closed."""
        found = catalog.read_sources(connection)
        self._sources = Sources(
            tuple(t for t in found.tables if t not in self.damaged_tables),
            tuple(p for p in found.partitions if p not in self._files.damaged),
            self._sources.closed & set(found.tables),
        )
