"""Measurements in DuckDB: the embedded store.

One thread writes, so that every append is one transaction in order; a few threads read, each
with a cursor of its own; one thread maintains (seals, merges, removes, copies). The append that
returned is on stable storage: DuckDB syncs its write-ahead log at each commit.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np

from heliometer.config import MetricSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import Receipt
from heliometer.storage.duckdb import catalog, sql
from heliometer.storage.duckdb.catalog import DAY_MS, Sources, WrongFormat
from heliometer.storage.duckdb.database import Database
from heliometer.storage.duckdb.maintenance import Maintenance, Snapshot
from heliometer.storage.errors import StoreUnusable

T = TypeVar("T")
log = logging.getLogger(__name__)

READERS = 4
_RETRIES = 10
_SWAP_S = 0.02
"""How long a reader waits for a swap that it met half-way, before it tries again."""
_LOOK_S = 0.2
"""How long a look at the free space is good for."""
_CHECK_S = 5
"""How long a query that failed waits for the check of its partitions."""
_NOT_OF_FILES = (
    duckdb.CatalogException,
    duckdb.ConnectionException,
    duckdb.FatalException,
    duckdb.InterruptException,
    duckdb.OutOfMemoryException,
)
"""Errors that a damaged partition does not cause."""


class DuckDBStore:
    """Embedded :class:`~heliometer.metrics.model.MeasurementStore` in one folder."""

    def __init__(self, folder: Path, settings: MetricSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._writer = ThreadPoolExecutor(1, "measurements-write")
        self._readers = ThreadPoolExecutor(READERS, "measurements-read")
        self._maintainer = ThreadPoolExecutor(1, "measurements-maintain")
        self._database = Database(folder / "recent.duckdb", settings.memory_bytes, self._look_again)
        self._sources = Sources()
        self._free, self._looked_at = 0, float("-inf")
        self._maintenance = Maintenance(folder, settings, self)

    # -- opening and closing ------------------------------------------------------------------

    def open(self) -> None:
        """Open the folder, making it if need be. Raises StoreUnusable."""
        try:
            self._maintenance.partitions.mkdir(parents=True, exist_ok=True)
            connection = self._database.open()
            self._sources = self._maintenance.check_files(catalog.read_sources(connection))
        except WrongFormat as error:
            raise StoreUnusable(str(error)) from error
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            if "lock" in reason.lower():
                reason = "another process has it open; is a server already running on this folder?"
            raise StoreUnusable(
                f"cannot open {self._folder / 'recent.duckdb'}: {reason}"
            ) from error
        except OSError as error:
            raise StoreUnusable(f"cannot use {self._folder}: {error.strerror}") from error

    def forget_idle_series(self, now_ms: int) -> int:
        """Drop the series of which retention left nothing; before anybody else uses the store.

        What retention ends goes first: a new series may get the id of one that was dropped, and
        must not find its measurements.
        """
        day = now_ms // DAY_MS - self._settings.retention_days
        try:
            self._maintenance.delete_before(day * DAY_MS)
            with self._database.reading() as cursor:
                return catalog.forget_idle_series(cursor, self._sources, day)
        except (HeliometerError, duckdb.Error) as error:
            log.error("series without measurements are kept until the next start: %s", error)
            return 0

    async def close(self) -> None:
        """Finish what is under way, fold the log into the database, and let go of the files."""
        for executor in (self._maintainer, self._readers, self._writer):
            await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._database.close)

    # -- the port -----------------------------------------------------------------------------

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,  # an append that failed has stored nothing
    ) -> None:
        await self._in(self._writer, lambda: self._append(batch, series, receipts))

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        a = aggregation

        def query(cursor: duckdb.DuckDBPyConnection, sources: Sources) -> Datapoints:
            text = sql.aggregate(a, sources, self._partition_path)
            columns = cursor.execute(text).fetchnumpy()
            return Datapoints(
                columns.pop("series"), columns.pop("ts"), {s: columns[s] for s in a.statistics}
            )

        return await self._in(self._readers, lambda: self._read(query, a.start_ms, a.end_ms))

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        def query(cursor: duckdb.DuckDBPyConnection, sources: Sources) -> Batch:
            text = sql.read(series, start_ms, end_ms, sources, self._partition_path)
            columns = cursor.execute(text).fetchnumpy()
            return Batch(columns["series"], columns["ts"], columns["value"])

        return await self._in(self._readers, lambda: self._read(query, start_ms, end_ms))

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        def query(cursor: duckdb.DuckDBPyConnection, sources: Sources) -> Batch:
            text = sql.latest(series, start_ms, end_ms, limit, sources, self._partition_path)
            columns = cursor.execute(text).fetchnumpy()
            return Batch(columns["series"], columns["ts"], columns["value"])

        return await self._in(self._readers, lambda: self._read(query, start_ms, end_ms))

    async def load_series(self) -> list[Series]:
        return await self._in(
            self._readers, lambda: self._read(lambda cursor, _: catalog.read_series(cursor))
        )

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        return await self._in(
            self._readers,
            lambda: self._read(lambda cursor, _: catalog.read_receipts(cursor, since_ms)),
        )

    async def delete_before(self, timestamp_ms: int) -> None:
        await self._in(self._maintainer, lambda: self._maintenance.delete_before(timestamp_ms))

    async def ping(self) -> None:
        def probe() -> None:
            self.refuse_when_full()
            now = int(time.time() * 1000)

            def write(connection: duckdb.DuckDBPyConnection) -> None:
                connection.execute("DELETE FROM probe")
                connection.execute("INSERT INTO probe VALUES ($1)", [now])

            self._database.transaction(write)
            with self._database.reading() as cursor:
                if cursor.execute("SELECT at_ms FROM probe").fetchall() != [(now,)]:
                    raise HeliometerError(Code.UNAVAILABLE, "What was written is not there.")

        await self._in(self._writer, probe)

    # -- upkeep -------------------------------------------------------------------------------

    async def maintain(self, now_ms: int, *, seal_all: bool = False) -> None:
        """Seal what is due, merge, and forget old receipts. ``seal_all``: every table, now."""
        await self._in(self._maintainer, lambda: self._maintenance.run(now_ms, seal_all=seal_all))

    async def backup(self, use: Callable[[Snapshot], T]) -> T:
        """Call ``use`` with a consistent copy of the database and the partitions that it names.

        Nothing is sealed or removed meanwhile; appends and queries go on.
        """
        return await self._in(self._maintainer, lambda: self._maintenance.with_snapshot(use))

    async def verify(self) -> list[str]:
        """Read every partition whole and say what is wrong with which; empty when all is well."""
        return await self._in(self._maintainer, self._maintenance.verify)

    @property
    def sources(self) -> Sources:
        """What holds measurements now."""
        return self._sources

    # -- for maintenance ----------------------------------------------------------------------

    def write(
        self, work: Callable[[duckdb.DuckDBPyConnection], None], then: Callable[[Sources], Sources]
    ) -> None:
        """From another thread: run ``work`` as a transaction between appends; when it has
        committed, ``then`` makes the new sources out of the present ones."""

        def run() -> None:
            self._database.transaction(work)
            self._sources = then(self._sources)

        self._writer.submit(run).result()

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A cursor for the calling thread."""
        return self._database.reading()

    def free_bytes(self) -> int:
        """Free space on the folder's disk."""
        return shutil.disk_usage(self._folder).free

    def refuse_when_full(self) -> None:
        """Raise UNAVAILABLE while less space is free than must stay free."""
        if time.monotonic() - self._looked_at > _LOOK_S:
            self._free, self._looked_at = self.free_bytes(), time.monotonic()
        free = self._free
        if free < self._settings.min_free_bytes:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "The service's disk is almost full; nothing can be stored until its operator "
                "makes room.",
                details=f"{free >> 20} MiB are free, {self._settings.min_free_bytes >> 20} MiB "
                "must stay free (metrics.min_free_bytes).",
                retry_after=30,
            )

    # -- inside -------------------------------------------------------------------------------

    async def _in(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _append(self, batch: Batch, series: Sequence[Series], receipts: Sequence[Receipt]) -> None:
        self.refuse_when_full()
        day = batch.timestamp // DAY_MS
        days = [int(day[0])] if len(day) and day[0] == day.min() == day.max() else None
        if days is None:
            days = [int(d) for d in np.unique(day)]
        target = {d: self._sources.open_table(d) or self._sources.next_table(d) for d in days}
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

    def _read(
        self,
        query: Callable[[duckdb.DuckDBPyConnection, Sources], T],
        start_ms: int = 0,
        end_ms: int = 0,
    ) -> T:
        """Run ``query`` on the sources that may hold measurements of [start, end)."""
        # A table or file may be swapped for another between choosing and opening the sources.
        # That shows as an error; the new sources are there as soon as the swap has returned.
        for attempt in range(_RETRIES):
            now = self._sources
            sources = now.within(start_ms, end_ms)
            try:
                with self._database.reading() as cursor:
                    return query(cursor, sources)
            except duckdb.Error as error:
                swapped = isinstance(error, duckdb.CatalogException | duckdb.IOException)
                if swapped and attempt < _RETRIES - 1:
                    if now is self._sources:
                        time.sleep(_SWAP_S)
                    continue
                if self._was_damaged(sources, error):
                    return self._read(query, start_ms, end_ms)
                log.error("measurements could not be read: %s", error)
                raise HeliometerError(
                    Code.UNAVAILABLE,
                    "The measurements could not be read.",
                    details="Send the request again; if it goes on, tell the operator.",
                    retry_after=5,
                ) from error
        raise AssertionError("unreachable")

    def _was_damaged(self, sources: Sources, error: duckdb.Error) -> bool:
        """Whether the error came of damaged partitions. They are left out from then on."""
        if isinstance(error, _NOT_OF_FILES) or not sources.partitions:
            return False
        check = self._maintainer.submit(self._maintenance.set_aside_damaged, sources.partitions)
        wait({check}, _CHECK_S)  # it goes on when it takes longer
        left_out = self._maintenance.damaged.difference(self._sources.partitions)
        return not left_out.isdisjoint(sources.partitions)

    def _partition_path(self, file: str) -> str:
        return str(self._maintenance.partitions / file)

    def _look_again(self, connection: duckdb.DuckDBPyConnection) -> None:
        """After a start over: what is on the disk, less what is damaged, and with nothing appended
        to a table that is being sealed."""
        found = catalog.read_sources(connection)
        known = self._sources
        self._sources = Sources(
            found.tables,
            tuple(p for p in found.partitions if p not in self._maintenance.damaged),
            known.closed & set(found.tables),
        )
