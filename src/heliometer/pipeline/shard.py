"""One shard of the projects, which every measurement passes through, on a single node and in a
cluster.

It deduplicates by receipts, stores, and passes what is stored to the alarms and to the feed.
Receiving measurements and answering clients is the transport's task: ``group_commit`` in one
process, ``cluster.consumer`` behind RabbitMQ.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple

import numpy as np

from heliometer.core.errors import HeliometerError
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.ports import Committed, MeasurementWriter, Stored
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_index import SeriesIndex
from heliometer.pipeline.ports import FeedWriter, Prepared

NOTHING = Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
SIDE_BY_SIDE = 16
"""The most units stored concurrently where each is stored alone."""


class Unit(NamedTuple):
    """Rows that are stored together or not at all, and only once."""

    batch: Batch
    receipt: Receipt | None
    """The receipt of a client that may repeat the request; a unit whose receipt is known is not
    stored."""
    handover: Sequence[Receipt] = ()
    """Receipts that exist only in messages between processes. They are looked up in the store only,
    and only if the unit may be a duplicate."""

    @property
    def receipts(self) -> Sequence[Receipt]:
        """All receipts that are stored with the rows."""
        return self.handover if self.receipt is None else (self.receipt,)


@dataclass(slots=True)
class _Sorted:
    """Units, sorted by how they are to be handled."""

    new: list[Unit]
    known: list[Unit]
    """Units that were stored before under the same receipt."""
    refusals: list[HeliometerError | None]
    """Why each unit is refused; ``None`` if it is not."""


class Shard(Generic[Prepared]):
    """One shard of the projects, in the process that owns it."""

    def __init__(
        self,
        number: int,
        *,
        store: MeasurementWriter,
        series_index: SeriesIndex,
        receipts: Receipts,
        feed: FeedWriter[Prepared],
        series_stored: Callable[[Sequence[Series]], None],
        committed: Committed = lambda *_: None,
    ) -> None:
        """``series_stored`` is called with the series that the store has just gained."""
        self.number = number
        self._store = store
        self._series_index = series_index
        self._receipts = receipts
        self._feed = feed
        self._series_stored = series_stored
        self._committed = committed
        self._listeners: list[Stored] = []
        self._storing = asyncio.Lock()
        self._known_to = 0
        """Listeners know the series up to this id; ``_announced`` has a flag for each later one."""
        self._announced = np.zeros(0, np.bool_)
        self.reset()

    # -- listeners ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Drop all listeners. Later ones are assumed to know all present series."""
        self._listeners.clear()
        self._known_to = self._series_index.last_id
        self._announced = np.zeros(1024, np.bool_)

    def listen(self, stored: Stored) -> None:
        """Have ``stored`` called with everything that is stored from now on."""
        self._listeners.append(stored)

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Store nothing inside the block, so that listeners have seen all that the store holds."""
        async with self._storing:
            yield

    # -- storing ------------------------------------------------------------------------------

    async def store(
        self,
        units: Sequence[Unit],
        series: Sequence[Series] = (),
        *,
        maybe_duplicate: bool = False,
    ) -> Sequence[HeliometerError | None]:
        """Store units, and new series whatever becomes of the units.

        Returns for each unit why it is refused (its key was used for another request), or ``None``
        if it is stored, now or earlier. ``maybe_duplicate``: each unit has a receipt and was handed
        over before, with unknown result. Raises what the store and the feed raise.
        """
        async with self._storing:
            found = self._sort(units)
            if maybe_duplicate:
                await self._store_each(found, series)
            elif found.new or series:
                await self._store_together(found.new, series)
            # Not earlier: a unit that is not stored must be accepted when it is sent again.
            for unit in found.new:
                if unit.receipt is not None:
                    self._receipts.remember(unit.receipt)
        return found.refusals

    def _sort(self, units: Sequence[Unit]) -> _Sorted:
        found = _Sorted([], [], [])
        here = Receipts(())
        for unit in units:
            refusal: HeliometerError | None = None
            is_known = False
            if unit.receipt is not None:
                try:
                    is_known = self._receipts.known(unit.receipt) or here.known(unit.receipt)
                except HeliometerError as error:
                    refusal = error
            found.refusals.append(refusal)
            if is_known:
                found.known.append(unit)
            elif refusal is None:
                found.new.append(unit)
                if unit.receipt is not None:
                    here.remember(unit.receipt)
        return found

    async def _store_together(self, units: Sequence[Unit], series: Sequence[Series]) -> None:
        started = time.perf_counter()
        batch = Batch.concatenate([unit.batch for unit in units] or [NOTHING])
        receipts = [receipt for unit in units for receipt in unit.receipts]
        prepared = await self._feed.prepare(self.number, batch)
        try:
            await self._store.append(batch, series, receipts)
        except BaseException:
            await self._feed.abort(prepared)
            raise
        if series:
            self._series_stored(series)
        self._notify(batch)
        await self._feed.commit(prepared)
        self._committed(len(batch), time.perf_counter() - started)

    async def _store_each(self, found: _Sorted, series: Sequence[Series]) -> None:
        """Have the store skip what it already holds, unit by unit."""
        if series:
            await self._store.append(NOTHING, series, ())
            self._series_stored(series)
        room = asyncio.Semaphore(SIDE_BY_SIDE)

        async def append(unit: Unit) -> None:
            async with room:
                await self._store.append(unit.batch, (), unit.receipts, maybe_duplicate=True)

        # Concurrently: each waits until no earlier insert is running.
        async with asyncio.TaskGroup() as group:
            for unit in found.new:
                group.create_task(append(unit))
        for unit in found.new:
            self._notify(unit.batch)
            await self._to_feed(unit.batch)
        for unit in found.known:  # by an owner that may have exited before it published them
            await self._to_feed(unit.batch)

    async def _to_feed(self, batch: Batch) -> None:
        await self._feed.commit(await self._feed.prepare(self.number, batch))

    def _notify(self, batch: Batch) -> None:
        if self._listeners:
            new = [self._series_index[i] for i in self._unannounced(batch.series).tolist()]
            for stored in self._listeners:
                stored(batch, new)

    def _unannounced(self, series: Int64s) -> Int64s:
        """The series that listeners do not know yet, each once; they count as known from now on."""
        later = series[series > self._known_to] - self._known_to
        if not len(later):
            return later
        highest = int(later.max())
        if highest >= len(self._announced):
            self._announced = np.pad(
                self._announced, (0, max(highest + 1, 2 * len(self._announced)))
            )
        new = np.unique(later[~self._announced[later]])
        self._announced[new] = True
        return new + self._known_to
