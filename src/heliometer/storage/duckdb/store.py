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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import duckdb

from heliometer.config import MetricSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import Receipt
from heliometer.storage.duckdb import catalog, condition
from heliometer.storage.duckdb.catalog import WrongFormat
from heliometer.storage.duckdb.database_copy import DatabaseCopy, with_copy
from heliometer.storage.duckdb.free_space import FreeSpace, free_bytes
from heliometer.storage.duckdb.partition_files import PartitionFiles
from heliometer.storage.duckdb.reader import Reader
from heliometer.storage.duckdb.retention import delete_before, forget_receipts
from heliometer.storage.duckdb.sealing import Sealer, is_damage
from heliometer.storage.duckdb.sources import DAY_MS, Sources
from heliometer.storage.duckdb.writer import Writer
from heliometer.storage.errors import StoreUnusable

T = TypeVar("T")
log = logging.getLogger(__name__)

READERS = 4
_CHECK_S = 5
"""How long a failed query waits for the check of its partitions, in seconds."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What is damaged, and left out, or was set aside."""

    partitions: int
    tables: int
    measurements: int
    """Of the damaged partitions."""
    quarantined: int
    """Files in quarantine, whatever became of them."""


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
        self._database = folder / "recent.duckdb"
        self._advice = (
            "nothing was changed; what can be saved is shown by: heliometer repair --data-dir "
            f"{folder.parent}"
        )
        self._writer = Writer(self._database, settings.memory_bytes, self._files)
        self._reader = Reader(
            self._writer,
            self._files.path,
            self._files.find_damaged,
            self._leave_out_damaged,
        )
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
        except condition.InUse as error:
            raise StoreUnusable(
                f"cannot open {self._database}: another process has it open; "
                "is a server already running on this folder?"
            ) from error
        except condition.Damaged as error:
            raise StoreUnusable(f"{error}; {self._advice}") from error
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            if is_damage(error):
                raise StoreUnusable(
                    f"{self._database} is damaged: {reason}; {self._advice}"
                ) from error
            raise StoreUnusable(f"cannot open {self._database}: {reason}") from error
        except OSError as error:
            raise StoreUnusable(f"cannot use {self._folder}: {error.strerror}") from error

    async def close(self) -> None:
        """Finish running tasks, and close the database."""
        for executor in (self._maintainer, self._readers, self._writer.executor):
            await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._writer.close)

    @property
    def condition(self) -> Condition:
        """What is damaged, or was set aside."""
        return Condition(
            len(self._files.damaged),
            len(self._writer.damaged_tables),
            sum(p.rows for p in self._files.damaged),
            len(self._files.quarantine.entries()),
        )

    async def require_undamaged(self) -> None:
        """Raise UNAVAILABLE while something is left out."""
        found = self.condition
        if found.partitions or found.tables:
            raise HeliometerError(
                Code.UNAVAILABLE,
                f"{found.partitions} partitions and {found.tables} tables are damaged, and left "
                "out; the rest is served.",
            )

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

    async def owners(self) -> set[str]:
        """The projects that have series."""
        return await _in(self._readers, self._reader.owners)

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
        """Read everything; leave out what is damaged. Describes each problem in a sentence."""

        def run() -> list[str]:
            self._sealer.leave_out_damaged((), self._writer.sources.tables)
            return [
                *self._files.verify(self._writer.sources.partitions),
                *(f"table {t.name} of recent.duckdb is damaged: its measurements are left out"
                  for t in sorted(self._writer.damaged_tables, key=lambda t: t.name)),
                *(f"{e.path} is in quarantine: {e.why}" for e in self._files.quarantine.entries()),
            ]  # fmt: skip

        return await _in(self._maintainer, run)

    async def scrub(self) -> None:
        """Read everything once, piece by piece, and leave out what is damaged."""
        for table in self.sources.tables:
            await _in(self._maintainer, partial(self._sealer.leave_out_damaged, (), [table]))
        for partition in self.sources.partitions:
            await _in(self._maintainer, partial(self._sealer.leave_out_damaged, [partition]))
            await asyncio.sleep(0)

    def _leave_out_damaged(self, suspects: Sources) -> bool:
        check = self._maintainer.submit(
            self._sealer.leave_out_damaged, suspects.partitions, suspects.tables
        )
        wait({check}, _CHECK_S)  # a check that takes longer continues
        now = self._writer.sources
        left_out: set[object] = set(self._files.damaged.difference(now.partitions))
        left_out |= self._writer.damaged_tables.difference(now.tables)
        return not left_out.isdisjoint((*suspects.partitions, *suspects.tables))


async def _in(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)
