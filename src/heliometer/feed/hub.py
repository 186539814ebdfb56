"""The queues of all projects: what the writer stores goes into those that it belongs to."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import numpy as np

from heliometer.core.errors import HeliometerError
from heliometer.feed.messages import Renderer
from heliometer.feed.model import Chunk, Position, Subscription, Usage
from heliometer.feed.ports import MessageStore
from heliometer.feed.queue import Queue
from heliometer.feed.subscription_index import Matching, Select
from heliometer.metrics.model import Batch, Series

log = logging.getLogger(__name__)

CHUNK = 1000
"""Messages of one chunk at most."""
EMPTY = Position(0, 0, 0, 0)
AT_ONCE = 5000
"""Messages that are rendered in the event loop; more would hold up everybody else."""
PASSING = 10_000
"""Messages that a queue keeps which lives only as long as a consumer's connection."""
REMEMBER_S = 0.25
"""Seconds between two times that positions are stored."""
EXPIRE_S = 60.0


class FeedHub:
    """One durable queue for each project with an endpoint, and passing ones beside it."""

    def __init__(
        self,
        store: MessageStore,
        series: Callable[[int], Series],
        select: Select,
        clock: Callable[[], float],
        *,
        limit: int,
        keep_s: int,
    ) -> None:
        self._store = store
        self._matching = Matching(select)
        self._renderer = Renderer(series)
        self._series = series
        self._clock = clock
        self._limit = limit
        self._keep_ms = keep_s * 1000
        self._queues: dict[str, Queue] = {}
        self._passing: dict[str, list[Queue]] = {}

    def __getitem__(self, project_id: str) -> Queue:
        """A project's queue. Raises KeyError."""
        return self._queues[project_id]

    def __contains__(self, project_id: str) -> bool:
        return project_id in self._queues

    async def load(self, projects: Iterable[str], subscriptions: Iterable[Subscription]) -> None:
        """Go on from what is stored; queues of projects that have no endpoint any more go."""
        positions = await self._store.load()
        for project_id in projects:
            self.add(project_id, positions.pop(project_id, EMPTY))
        for gone in positions:
            await self._store.forget(gone)
        for subscription in subscriptions:
            self.subscribe(subscription)

    def add(self, project_id: str, position: Position = EMPTY) -> None:
        """Give a project its queue; it may have it already."""
        if project_id not in self._queues:
            self._queues[project_id] = Queue(project_id, position, self._store, self._limit)

    async def remove(self, project_id: str) -> None:
        """Take a project's queue away, with what is in it."""
        queue = self._queues.pop(project_id, None)
        if queue is not None:
            queue.close()
            await self._store.forget(project_id)

    def subscribe(self, subscription: Subscription) -> None:
        """From now on the measurements that match flow."""
        self._matching.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """They do not flow any more, unless another subscription matches."""
        self._matching.remove(subscription)

    def passing(self, project_id: str) -> Queue:
        """A queue in memory that gets nothing yet."""
        return Queue(project_id, EMPTY, None, PASSING)

    def bind(self, queue: Queue) -> None:
        """A passing queue gets what its project's queue gets from now on."""
        bound = self._passing.setdefault(queue.project_id, [])
        if queue not in bound:
            bound.append(queue)

    def unbind(self, queue: Queue) -> None:
        """It gets nothing more."""
        bound = [q for q in self._passing.get(queue.project_id, ()) if q is not queue]
        if bound:
            self._passing[queue.project_id] = bound
        else:
            self._passing.pop(queue.project_id, None)

    def usage(self, project_id: str) -> Usage:
        """What a project's queue holds; zeros where there is none."""
        queue = self._queues.get(project_id)
        return queue.usage() if queue is not None else Usage(0, 0, 0, 0, 0)

    def total(self) -> Usage:
        """Of all projects together."""
        usages = [queue.usage() for queue in self._queues.values()] or [Usage(0, 0, 0, 0, 0)]
        return Usage(*(sum(column) for column in zip(*usages, strict=True)))

    # -- what the writer calls, one commit after the other ------------------------------------

    async def keep(self, batch: Batch, series: Sequence[Series]) -> list[Chunk]:
        """Put what is subscribed to on stable storage, before the measurements themselves.

        Nobody gets it before ``publish``. Raises UNAVAILABLE, and keeps nothing then.
        """
        self._matching.know(series)
        at = self._matching.wanted(batch.series)
        if not len(at):
            return []
        wanted = Batch(batch.series[at], batch.timestamp[at], batch.value[at])
        if len(wanted) > AT_ONCE:
            chunks = await asyncio.to_thread(self._chunks, wanted)
        else:
            chunks = self._chunks(wanted)
        if chunks:
            await self._store.append(chunks)
        return chunks

    def publish(self, chunks: Sequence[Chunk]) -> None:
        """What was kept is stored: consumers may have it."""
        for chunk in chunks:
            queue = self._queues.get(chunk.project_id)
            # It may have been removed, or made anew, since the chunk was kept.
            if queue is not None and queue.next == chunk.first:
                queue.publish(chunk)
            for passing in self._passing.get(chunk.project_id, ()):
                passing.publish(chunk._replace(first=passing.next))

    async def put(self, messages: Sequence[tuple[str, Sequence[bytes]]]) -> None:
        """Messages that another process rendered, by project, in the order of arrival; on stable
        storage and shown when it returns. Raises UNAVAILABLE."""
        now = int(self._clock() * 1000)
        next_: dict[str, int] = {}
        chunks: list[Chunk] = []
        for project_id, bodies in messages:
            queue = self._queues.get(project_id)
            if queue is None:
                continue
            for start in range(0, len(bodies), CHUNK):
                first = next_.setdefault(project_id, queue.next)
                some = bodies[start : start + CHUNK]
                chunks.append(Chunk(project_id, first, now, some))
                next_[project_id] = first + len(some)
        if chunks:
            await self._store.append(chunks)
            self.publish(chunks)

    async def revoke(self, chunks: Sequence[Chunk]) -> None:
        """What was kept could not be stored: it never was."""
        try:
            await self._store.revoke(chunks)
        except HeliometerError:
            # The next chunk has the same numbers and takes its place.
            log.warning("messages whose measurements were refused stay in the feed's store")

    def _chunks(self, batch: Batch) -> list[Chunk]:
        """By project, in the order of arrival."""
        ids = batch.series.tolist()
        project = {i: self._series(i).project_id for i in set(ids)}
        now = int(self._clock() * 1000)
        if len(set(project.values())) > 1:
            names = [project[i] for i in ids]
            order = np.array(sorted(range(len(ids)), key=names.__getitem__), np.intp)
        else:
            order = np.arange(len(ids))
        chunks: list[Chunk] = []
        for project_id, group in groupby(order.tolist(), key=lambda at: project[ids[at]]):
            queue = self._queues.get(project_id)
            if queue is None:
                continue
            rows = np.fromiter(group, np.intp)
            bodies = self._renderer.render(
                batch.series[rows].tolist(),
                batch.timestamp[rows].tolist(),
                batch.value[rows].tolist(),
            )
            first = queue.next
            chunks += [
                Chunk(project_id, first + start, now, bodies[start : start + CHUNK])
                for start in range(0, len(bodies), CHUNK)
            ]
        return chunks

    # -- in the background --------------------------------------------------------------------

    async def remember(self) -> None:
        """Store where queues stand, as far as that changed."""
        changed = {name: queue for name, queue in self._queues.items() if queue.changed}
        if not changed:
            return
        for queue in changed.values():
            queue.changed = False
        try:
            await self._store.advance({name: q.position() for name, q in changed.items()})
        except HeliometerError:
            for queue in changed.values():
                queue.changed = True

    async def expire(self) -> None:
        """Drop what is too old."""
        before = int(self._clock() * 1000) - self._keep_ms
        for project_id, end in (await self._store.oldest(before)).items():
            if project_id in self._queues:
                self._queues[project_id].drop_to(end)

    async def run(self) -> None:
        """Remember positions and drop what is old, until cancelled."""
        loop = asyncio.get_running_loop()
        expired = loop.time()
        while True:
            await asyncio.sleep(REMEMBER_S)
            try:
                await self.remember()
                if loop.time() - expired > EXPIRE_S:
                    expired = loop.time()
                    await self.expire()
            except Exception:
                log.exception("the feed's upkeep failed")

    async def close(self) -> None:
        """Hand out nothing more, and store where queues stand."""
        for queue in self._queues.values():
            queue.close()
        await self.remember()
