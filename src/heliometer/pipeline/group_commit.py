"""Group commit: while one commit is under way, the posts that arrive gather for the next.

A commit costs nearly the same for one post as for many. Left alone, the posters fall into two
groups that take turns, and every commit carries half of what it could. So a commit waits a moment
until as many posts are there as posters were seen around the last one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.ports import Committed, MeasurementWriter, Stored
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_index import SeriesIndex

LARGEST_GROUP = 500_000
"""Measurements in one commit; more wait for the next."""
HOLD_S = 0.004
"""The longest that a commit waits for company. A poster that is alone never waits."""


class Feeding(Protocol):
    """Takes what others subscribed to, so that it flows exactly when it is stored."""

    async def keep(self, batch: Batch, series: Sequence[Series]) -> Any:
        """Put it on stable storage, shown to nobody yet; falsy: there was nothing."""
        ...

    def publish(self, kept: Any) -> None:
        """The measurements are stored."""
        ...

    async def revoke(self, kept: Any) -> None:
        """They could not be."""
        ...


class Writer:
    """Brings batches into a store, many at a time, each acknowledged only when it is durable."""

    def __init__(
        self,
        store: MeasurementWriter,
        series_index: SeriesIndex,
        *,
        limit: int,
        committed: Committed = lambda *_: None,
        feeding: Feeding | None = None,
    ) -> None:
        self._store = store
        self._series_index = series_index
        self._limit = limit
        self._committed = committed
        self._feeding = feeding
        self._waiting: list[tuple[Batch, Receipt | None, asyncio.Future[None]]] = []
        self._pending = 0
        self._running: asyncio.Task[None] | None = None
        self._listeners: list[Stored] = []
        self._committing = asyncio.Lock()
        self._posters = 0
        """Posts in the last commit, and those that came while it was under way."""
        self._all_here = asyncio.Event()

    @property
    def pending(self) -> int:
        """Measurements that wait or are being stored."""
        return self._pending

    def listen(self, stored: Stored) -> None:
        """Have ``stored`` called with everything that is stored from now on."""
        self._listeners.append(stored)

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Nothing is committed meanwhile: what the store holds is what listeners were given."""
        async with self._committing:
            yield

    async def write(self, batch: Batch, receipt: Receipt | None = None) -> None:
        """Return when the batch, and its receipt, are on stable storage.

        Raises UNAVAILABLE when they could not be stored, or too many are waiting already;
        nothing of the batch is stored then.
        """
        if self._pending + len(batch) > self._limit and self._pending:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "More measurements arrive than can be stored; this request was not taken.",
                details="Send it again a little later.",
                retry_after=1,
            )
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, receipt, done))
        self._pending += len(batch)
        if len(self._waiting) >= self._posters:
            self._all_here.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="group commit")
        # A client that hangs up does not take its neighbours' commit with it.
        await asyncio.shield(done)

    async def drain(self) -> None:
        """Return when nothing waits any more."""
        while self._running is not None:
            await asyncio.wait({self._running})

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._hold()
                group = self._take()
                await self._commit(group)
                self._posters = len(group) + len(self._waiting)
        finally:
            self._running = None

    async def _hold(self) -> None:
        if len(self._waiting) >= self._posters or self._pending >= LARGEST_GROUP:
            return
        self._all_here.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                await self._all_here.wait()

    def _take(self) -> list[tuple[Batch, Receipt | None, asyncio.Future[None]]]:
        size = count = 0
        for batch, _, _ in self._waiting:
            if count and size + len(batch) > LARGEST_GROUP:
                break
            size += len(batch)
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit(
        self, group: list[tuple[Batch, Receipt | None, asyncio.Future[None]]]
    ) -> None:
        async with self._committing:
            await self._store_group(group)

    async def _store_group(
        self, group: list[tuple[Batch, Receipt | None, asyncio.Future[None]]]
    ) -> None:
        batch = Batch.concatenate([b for b, _, _ in group])
        receipts = [r for _, r, _ in group if r is not None]
        series = self._series_index.unsaved()
        started = time.perf_counter()
        try:
            kept = await self._append(batch, series, receipts)
        except Exception as error:
            for _, _, done in group:
                if not done.done():
                    done.set_exception(for_each(error))
                    done.exception()  # whoever waited may be gone: that is not an error of ours
        else:
            for _, _, done in group:
                if not done.done():
                    done.set_result(None)
            self._series_index.saved(series)
            self._committed(len(batch), time.perf_counter() - started)
            for stored in self._listeners:
                stored(batch, series)
            if self._feeding and kept:
                self._feeding.publish(kept)
        finally:
            self._pending -= len(batch)

    async def _append(
        self, batch: Batch, series: Sequence[Series], receipts: Sequence[Receipt]
    ) -> Any:
        kept = await self._feeding.keep(batch, series) if self._feeding else None
        try:
            await self._store.append(batch, series, receipts)
        except Exception:
            if self._feeding and kept:
                await self._feeding.revoke(kept)
            raise
        return kept


def for_each(error: Exception) -> Exception:
    """An exception of its own for each waiter: raising one object in many tasks would grow its
    traceback with each."""
    if isinstance(error, HeliometerError):
        return HeliometerError(
            error.code, error.message, details=error.details, retry_after=error.retry_after
        )
    return error
