"""Measurements in DuckDB: the embedded store.

One thread writes, so that appends are transactions in order; a few threads read, each with a cursor
of its own; one thread does the upkeep (sealing, retention, copies), so that such tasks never
overlap. Once ``append`` returns, its measurements are on stable storage: DuckDB syncs its
write-ahead log at each commit.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import duckdb

from heliometer.config import MetricSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import Receipt
from heliometer.storage.duckdb import catalog
from heliometer.storage.duckdb.catalog import WrongFormat
from heliometer.storage.duckdb.database_copy import DatabaseCopy, with_copy
from heliometer.storage.duckdb.free_space import FreeSpace, free_bytes
from heliometer.storage.duckdb.partition_files import PartitionFiles
from heliometer.storage.duckdb.reader import Reader
from heliometer.storage.duckdb.retention import delete_before, forget_receipts
from heliometer.storage.duckdb.sealing import Sealer
from heliometer.storage.duckdb.sources import DAY_MS, Partition, Sources
from heliometer.storage.duckdb.writer import Writer
from heliometer.storage.errors import StoreUnusable

T = TypeVar("T")
log = logging.getLogger(__name__)

READERS = 4
_CHECK_S = 5
"""How long a failed query waits for the check of its partitions, in seconds."""


class DuckDBStore:
    """Embedded :class:`~heliometer.metrics.ports.MeasurementStore` in one folder."""

    def __init__(
        self,
        folder: Path,
        settings: MetricSettings,
        measure_free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._space = FreeSpace(folder, settings.min_free_bytes, measure_free)
        self._files = PartitionFiles(folder)
        self._writer = Writer(folder / "recent.duckdb", settings.memory_bytes, self._files)
        self._reader = Reader(self._writer, self._files.path, self._leave_out_damaged)
        self._sealer = Sealer(settings, self._writer, self._files)
        self._readers = ThreadPoolExecutor(READERS, "measurements-read")
        self._maintainer = ThreadPoolExecutor(1, "measurements-maintain")

    def open(self) -> None:
        """Open the folder, or create it. Raises StoreUnusable."""
        try:
            self._files.folder.mkdir(parents=True, exist_ok=True)
            self._writer.open()
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

    async def close(self) -> None:
        """Finish running tasks, and close the database."""
        for executor in (self._maintainer, self._readers, self._writer.executor):
            await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._writer.close)

    @property
    def sources(self) -> Sources:
        """The present tables and partitions."""
        return self._writer.sources

    # -- the port -----------------------------------------------------------------------------

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,  # a failed append has stored nothing
    ) -> None:
        def append() -> None:
            self._space.require()
            self._writer.append(batch, series, receipts)

        await _in(self._writer.executor, append)

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        return await _in(self._readers, lambda: self._reader.aggregate(aggregation))

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        return await _in(self._readers, lambda: self._reader.read(series, start_ms, end_ms))

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        return await _in(
            self._readers, lambda: self._reader.latest(series, start_ms, end_ms, limit)
        )

    async def load_series(self) -> list[Series]:
        return await _in(self._readers, self._reader.series)

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        return await _in(self._readers, lambda: self._reader.receipts(since_ms))

    async def delete_before(self, timestamp_ms: int) -> None:
        await _in(self._maintainer, lambda: delete_before(self._writer, self._files, timestamp_ms))

    async def ping(self) -> None:
        def probe() -> None:
            self._space.require()
            if not self._writer.probe(int(time.time() * 1000)):
                raise HeliometerError(Code.UNAVAILABLE, "What was written is not there.")

        await _in(self._writer.executor, probe)

    # -- upkeep -------------------------------------------------------------------------------

    def forget_idle_series(self, now_ms: int) -> int:
        """Remove the series without measurements, before the store is used. Measurements past
        retention are removed first: a new series may reuse the id of a removed one, and must not
        inherit its measurements."""
        day = now_ms // DAY_MS - self._settings.retention_days
        try:
            delete_before(self._writer, self._files, day * DAY_MS)
            with self._writer.reading() as cursor:
                return catalog.forget_idle_series(cursor, self._writer.sources, day)
        except (HeliometerError, duckdb.Error) as error:
            log.error("series without measurements are kept until the next start: %s", error)
            return 0

    async def maintain(self, now_ms: int, *, seal_all: bool = False) -> None:
        """Seal what is due, merge, and remove old receipts. ``seal_all``: seal every table."""

        def run() -> None:
            self._sealer.run(now_ms, seal_all=seal_all)
            forget_receipts(self._writer, now_ms)

        await _in(self._maintainer, run)

    async def backup(self, use: Callable[[DatabaseCopy], T]) -> T:
        """Call ``use`` with a consistent copy of the database and the partitions that it names.
        Nothing is sealed or removed meanwhile; appends and queries continue."""
        return await _in(
            self._maintainer,
            lambda: with_copy(self._writer, self._folder, self._files.folder, use),
        )

    async def verify(self) -> list[str]:
        """Read all partitions; describe each problem in a sentence."""
        return await _in(
            self._maintainer, lambda: self._files.verify(self._writer.sources.partitions)
        )

    def _leave_out_damaged(self, suspects: Sequence[Partition]) -> bool:
        check = self._maintainer.submit(self._sealer.leave_out_damaged, suspects)
        wait({check}, _CHECK_S)  # a check that takes longer continues
        left_out = self._files.damaged.difference(self._writer.sources.partitions)
        return not left_out.isdisjoint(suspects)


async def _in(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
