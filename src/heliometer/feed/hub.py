"""The queues of all projects: what is stored goes into those of the projects that subscribed."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from heliometer.core.errors import HeliometerError
from heliometer.feed.messages import KnownSeries, SubscribedMessages
from heliometer.feed.model import Chunk, Position, Subscription, Usage
from heliometer.feed.ports import MessageStore
from heliometer.feed.queue import Queue
from heliometer.metrics.model import Batch

log = logging.getLogger(__name__)

CHUNK = 1000
"""Messages of one chunk at most."""
EMPTY = Position(0, 0, 0, 0)
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
        series: KnownSeries,
        clock: Callable[[], float],
        *,
        limit: int,
        keep_s: int,
    ) -> None:
        self._store = store
        self._messages = SubscribedMessages(series)
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
        """Resume from what is stored; queues of projects that no longer have an endpoint are
        removed."""
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
        """Have the measurements that match flow from now on."""
        self._messages.subscribe(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop those that no other subscription matches."""
        self._messages.unsubscribe(subscription)

    def passing(self, project_id: str) -> Queue:
        """A queue in memory that gets nothing yet."""
        return Queue(project_id, EMPTY, None, PASSING)

    def bind(self, queue: Queue) -> None:
        """A passing queue gets what its project's queue gets from now on."""
        bound = self._passing.setdefault(queue.project_id, [])
        if queue not in bound:
            bound.append(queue)

    def unbind(self, queue: Queue) -> None:
        """Give a passing queue nothing more."""
        bound = [q for q in self._passing.get(queue.project_id, ()) if q is not queue]
        if bound:
            self._passing[queue.project_id] = bound
        else:
            self._passing.pop(queue.project_id, None)

    def usage(self, project_id: str) -> Usage:
        """How much a project's queue holds; zeros if there is none."""
        queue = self._queues.get(project_id)
        return queue.usage() if queue is not None else Usage(0, 0, 0, 0, 0)

    def total(self) -> Usage:
        """What the queues of all projects hold together."""
        usages = [queue.usage() for queue in self._queues.values()] or [Usage(0, 0, 0, 0, 0)]
        return Usage(*(sum(column) for column in zip(*usages, strict=True)))

    # -- what a shard stores, one batch after the other ------------------------------------------

    async def prepare(self, shard: int, batch: Batch) -> Sequence[Chunk]:
        """Put the subscribed measurements on stable storage, before they are stored themselves.
        They are not delivered before ``commit``. Raises UNAVAILABLE, and keeps nothing then."""
        wanted = await self._messages.select(batch)
        if not len(wanted):
            return ()
        chunks = self._chunks(await self._messages.render(wanted))
        if chunks:
            await self._store.append(chunks)
        return chunks

    async def commit(self, prepared: Sequence[Chunk]) -> None:
        """Let consumers have what was prepared.

        Raises nothing: the measurements are stored, and whoever posted them must be told so.
        """
        try:
            self._publish(prepared)
        except Exception:
            log.exception("what is stored could not be handed to the feed's consumers")

    async def abort(self, prepared: Sequence[Chunk]) -> None:
        """Remove what was prepared."""
        if not prepared:
            return
        try:
            await self._store.revoke(prepared)
        except HeliometerError:
            # The next chunk has the same numbers and takes its place.
            log.warning("messages whose measurements were refused stay in the feed's store")

    async def put(self, messages: Sequence[tuple[str, Sequence[bytes]]]) -> None:
        """Take messages that another process rendered, by project, in the order of arrival; they
        are on stable storage and shown when this returns. Raises UNAVAILABLE."""
        chunks = self._chunks(messages)
        if chunks:
            await self._store.append(chunks)
            self._publish(chunks)

    def _chunks(self, messages: Sequence[tuple[str, Sequence[bytes]]]) -> list[Chunk]:
        """Numbered after what the queues have; those of projects without a queue are left out."""
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
        return chunks

    def _publish(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            queue = self._queues.get(chunk.project_id)
            # It may have been removed, or made anew, since the chunk was prepared.
            if queue is not None and queue.next == chunk.first:
                queue.publish(chunk)
            for passing in self._passing.get(chunk.project_id, ()):
                passing.publish(chunk._replace(first=passing.next))

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
        """Drop messages that are older than the settings keep them."""
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
