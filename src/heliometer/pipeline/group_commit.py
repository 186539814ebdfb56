"""The transport within one process: posts that arrive during a commit are grouped into the next.

A commit costs nearly the same for one post as for many. Without a pause, clients fall into two
groups that take turns, and every commit carries half of what it could. So a commit waits a moment
for as many posts as were seen around the last one.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_index import SeriesIndex
from heliometer.pipeline.ports import Prepared
from heliometer.pipeline.shard import Shard, Unit

log = logging.getLogger(__name__)

LARGEST_GROUP = 500_000
"""The most measurements in one commit; further ones wait for the next."""
HOLD_S = 0.004
"""The longest that a commit waits for more posts, in seconds. A single client never waits."""


@dataclass(frozen=True, slots=True)
class _Post:
    unit: Unit
    done: asyncio.Future[None]


class GroupCommit(Generic[Prepared]):
    """Stores batches through a shard, many at a time, each acknowledged only once it is durable."""

    def __init__(self, shard: Shard[Prepared], series_index: SeriesIndex, *, limit: int) -> None:
        """``limit``: the most measurements that may wait."""
        self._shard = shard
        self._series_index = series_index
        self._limit = limit
        self._waiting: list[_Post] = []
        self._pending = 0
        self._running: asyncio.Task[None] | None = None
        self._posters = 0
        """Posts in the last commit, and those that arrived while it was in progress."""
        self._all_here = asyncio.Event()

    @property
    def pending(self) -> int:
        """The number of measurements that wait or are being stored."""
        return self._pending

    async def write(self, batch: Batch, receipt: Receipt | None = None) -> None:
        """Return when the batch and its receipt are on stable storage. Raises UNAVAILABLE when they
        could not be stored, or too many are waiting already; then nothing of the batch is
        stored."""
        if self._pending + len(batch) > self._limit and self._pending:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "More measurements arrive than can be stored; this request was not taken.",
                details="Send it again a little later.",
                retry_after=1,
            )
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Post(Unit(batch, receipt), done))
        self._pending += len(batch)
        if len(self._waiting) >= self._posters:
            self._all_here.set()
        if self._running is None:
            self._start()
        # A client that disconnects must not cancel the commit of others.
        await asyncio.shield(done)

    async def drain(self) -> None:
        """Return when nothing waits any more."""
        while self._running is not None:
            await asyncio.wait({self._running})

    def _start(self) -> None:
        self._running = asyncio.create_task(self._run(), name="group commit")
        self._running.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running = None
        if task.cancelled():
            log.error("the group commit was cancelled")
        elif error := task.exception():
            log.error("the group commit failed: %s", error, exc_info=error)
        if self._waiting:
            self._start()

    async def _run(self) -> None:
        while self._waiting:
            await self._hold()
            group = self._take()
            await self._commit(group)
            self._posters = len(group) + len(self._waiting)

    async def _hold(self) -> None:
        if len(self._waiting) >= self._posters or self._pending >= LARGEST_GROUP:
            return
        self._all_here.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                await self._all_here.wait()

    def _take(self) -> list[_Post]:
        size = count = 0
        for post in self._waiting:
            if count and size + len(post.unit.batch) > LARGEST_GROUP:
                break
            size += len(post.unit.batch)
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit(self, group: Sequence[_Post]) -> None:
        refusals: Sequence[Exception | None]
        try:
            refusals = await self._shard.store(
                [post.unit for post in group], self._series_index.unsaved()
            )
        except Exception as error:
            refusals = [for_each(error) for _ in group]
        except BaseException:
            self._settle(group, [_unknown() for _ in group])
            raise
        self._settle(group, refusals)

    def _settle(self, group: Sequence[_Post], refusals: Sequence[Exception | None]) -> None:
        self._pending -= sum(len(post.unit.batch) for post in group)
        for post, refusal in zip(group, refusals, strict=True):
            if post.done.done():
                continue
            if refusal is None:
                post.done.set_result(None)
            else:
                post.done.set_exception(refusal)
                post.done.exception()  # the client may be gone: that is not an error


def _unknown() -> HeliometerError:
    return HeliometerError(
        Code.UNAVAILABLE,
        "It is not known whether this request was stored.",
        details="With an Idempotency-Key it can be sent again without being stored twice.",
        retry_after=1,
    )


def for_each(error: Exception) -> Exception:
    """A separate exception for each waiter: one object raised in many tasks would gather the
    tracebacks of all of them."""
    if isinstance(error, HeliometerError):
        return HeliometerError(
            error.code, error.message, details=error.details, retry_after=error.retry_after
        )
    return error
