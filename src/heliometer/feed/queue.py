"""A queue of messages: who gets which next, what is out, and what is over.

Messages have numbers that rise without gaps. Those below ``first`` are over; those from ``cursor``
on were never with a consumer; between lie those that are out, acknowledged before an older one
was, or returned. Everything here runs in the event loop; only reading older messages waits.
"""

import asyncio
import heapq
import logging
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from heliometer.core.errors import HeliometerError
from heliometer.feed.model import Chunk, Position, Usage
from heliometer.feed.ports import MessageStore

log = logging.getLogger(__name__)

RECENT = 4096
"""The newest messages, which are kept in memory for consumers that keep up."""
AT_ONCE = 256
"""Messages that one consumer gets before the next one's turn."""
BYTES_AT_ONCE = 1 << 18
"""And bytes of them, unless a single one is larger."""
OUT = 100_000
"""Messages of a queue that may be with consumers and not acknowledged, whatever they ask for."""
RETRY_S = 1.0


class Message(NamedTuple):
    """One message on its way to a consumer."""

    number: int
    body: bytes
    redelivered: bool
    """It may have been with a consumer before."""


class Consumer(Protocol):
    """Takes messages, and has each acknowledged or returned later."""

    def room(self) -> int:
        """How many it takes now."""
        ...

    def take(self, messages: Sequence[Message]) -> None:
        """Not more than ``room`` said."""
        ...


class Queue:
    """The messages of one project, in order, for consumers that share them.

    Without a store it lives in memory only, with ``limit`` messages at most.
    """

    def __init__(
        self, project_id: str, position: Position, store: MessageStore | None, limit: int
    ) -> None:
        self.project_id = project_id
        self._store = store
        self._limit = limit
        self._first = position.first
        self._next = position.next
        self._cursor = position.first
        self._delivered = position.delivered
        self._dropped = position.dropped
        self._seen = position.seen
        self._out: set[int] = set()
        self._done: set[int] = set()
        """Acknowledged, but an older one is not."""
        self._returned: list[int] = []
        """A heap."""
        self._consumers: list[Consumer] = []
        self._turn = 0
        self._recent: list[Chunk] = []
        self._recent_number = 0
        self._page: Chunk | None = None
        """What was read last of older messages."""
        self._loading: asyncio.Task[None] | None = None
        self._closed = False
        self._pumping = False
        self.changed = False
        """Whether ``position`` is another than when this was last set to False."""

    @property
    def next(self) -> int:
        """The number of the message to be published next."""
        return self._next

    @property
    def ready(self) -> int:
        """Messages that wait for a consumer."""
        return self._next - self._cursor + len(self._returned)

    @property
    def consumers(self) -> int:
        """Those attached."""
        return len(self._consumers)

    def usage(self) -> Usage:
        """What it holds, and what became of the rest."""
        queued = self._next - self._delivered - self._dropped
        return Usage(self._next, queued, self._delivered, self._dropped, len(self._consumers))

    def position(self) -> Position:
        """What a later process goes on from: what is over below ``first``, and nothing else."""
        dropped = self._dropped + sum(1 for n in self._out if n < self._first)
        return Position(self._first, self._next, self._first - dropped, dropped, self._cursor)

    def publish(self, chunk: Chunk) -> None:
        """Messages that are stored now; their numbers go on from ``next``."""
        if chunk.first != self._next:
            raise ValueError(f"message {chunk.first} is not next, but {self._next}")
        self._next += len(chunk.bodies)
        self._recent.append(chunk)
        self._recent_number += len(chunk.bodies)
        self.drop_to(self._next - self._limit)
        self._trim()
        self.changed = True
        self.pump()

    def drop_to(self, first: int) -> None:
        """Give up the messages before ``first``, except those that are out."""
        first = min(first, self._next)
        if first <= self._first:
            return
        gone = first - self._first
        kept = sum(1 for n in self._out if self._first <= n < first)
        over = [n for n in self._done if n < first]
        self._done.difference_update(over)
        self._dropped += gone - kept - len(over)
        if self._returned and self._returned[0] < first:
            self._returned = [n for n in self._returned if n >= first]
            heapq.heapify(self._returned)
        self._first = first
        self._cursor = max(self._cursor, first)
        self._settle()

    def attach(self, consumer: Consumer) -> None:
        """Let a consumer take part."""
        self._consumers.append(consumer)
        self.pump()

    def detach(self, consumer: Consumer) -> None:
        """The consumer gets nothing more; what is out with it stays out."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """These are delivered."""
        for number in numbers:
            if number not in self._out:
                continue
            self._out.discard(number)
            self._delivered += 1
            if number >= self._first:
                self._done.add(number)
        self._settle()
        self.pump()

    def give_back(self, numbers: Iterable[int]) -> None:
        """These are to be delivered again, before newer ones."""
        for number in numbers:
            if number not in self._out:
                continue
            self._out.discard(number)
            if number >= self._first:
                heapq.heappush(self._returned, number)
            else:
                self._dropped += 1
        self.changed = True
        self.pump()

    def close(self) -> None:
        """Nothing is delivered any more."""
        self._closed = True
        self._consumers.clear()
        if self._loading is not None:
            self._loading.cancel()

    def pump(self) -> None:
        """Hand out what is ready, to who has room."""
        if self._pumping:  # by a consumer that acknowledges while it takes
            return
        self._pumping = True
        try:
            while self._hand_out():
                pass
        finally:
            self._pumping = False

    def _hand_out(self) -> bool:
        """Give one consumer some messages, if there are any and one has room."""
        number = self._head()
        room = OUT - len(self._out)
        if self._closed or number is None or room <= 0:
            return False
        consumer = self._with_room()
        if consumer is None:
            return False
        chunk = self._chunk_with(number)
        if chunk is None:
            self._load(number)
            return False
        messages = self._take(chunk, min(consumer.room(), room, AT_ONCE))
        self._out.update(m.number for m in messages)
        self.changed = True
        consumer.take(messages)
        return True

    def _head(self) -> int | None:
        """The next message to hand out, if any."""
        if self._returned:
            return self._returned[0]
        return self._cursor if self._cursor < self._next else None

    def _with_room(self) -> Consumer | None:
        for step in range(len(self._consumers)):
            turn = (self._turn + step) % len(self._consumers)
            if self._consumers[turn].room() > 0:
                self._turn = turn + 1
                return self._consumers[turn]
        return None

    def _take(self, chunk: Chunk, number: int) -> list[Message]:
        """The next messages, as far as they are in the chunk."""
        end = chunk.first + len(chunk.bodies)
        if self._returned:
            messages: list[Message] = []
            left = BYTES_AT_ONCE
            while self._returned and len(messages) < number and left > 0:
                at = self._returned[0]
                if not chunk.first <= at < end:
                    break
                heapq.heappop(self._returned)
                body = chunk.bodies[at - chunk.first]
                left -= len(body)
                messages.append(Message(at, body, True))
            return messages
        first = self._cursor
        bodies = chunk.bodies[first - chunk.first : first - chunk.first + number]
        if sum(map(len, bodies)) > BYTES_AT_ONCE:
            bodies = bodies[: max(1, BYTES_AT_ONCE // max(map(len, bodies)))]
        self._cursor += len(bodies)
        seen = self._seen
        return [Message(at, body, at < seen) for at, body in enumerate(bodies, first)]

    # -- where messages are -------------------------------------------------------------------

    def _chunk_with(self, number: int) -> Chunk | None:
        """The chunk in memory that has the message."""
        if self._recent and number >= self._recent[0].first:
            return self._recent[bisect_right(self._recent, number, key=lambda c: c.first) - 1]
        page = self._page
        if page is not None and page.first <= number < page.first + len(page.bodies):
            return page
        return None

    def _trim(self) -> None:
        """Keep in memory what somebody may soon get, up to a bound; without a store, all."""
        keep_from = self._first if self._store is None else self._cursor
        keep = RECENT if self._consumers else 0
        drop = 0
        for chunk in self._recent:
            over = chunk.first + len(chunk.bodies) <= keep_from
            if not over and (self._store is None or self._recent_number <= keep):
                break
            self._recent_number -= len(chunk.bodies)
            drop += 1
        del self._recent[:drop]

    def _settle(self) -> None:
        """Move ``first`` over what is done."""
        self.changed = True
        while self._first in self._done:
            self._done.discard(self._first)
            self._first += 1
        if self._store is None:
            self._trim()

    def _load(self, number: int) -> None:
        if self._loading is None:
            self._loading = asyncio.create_task(self._read(number), name="feed page")

    async def _read(self, number: int) -> None:
        try:
            assert self._store is not None
            page = await self._store.read(self.project_id, number)
        except HeliometerError as error:
            log.error("messages of project %s cannot be read: %s", self.project_id, error.message)
            await asyncio.sleep(RETRY_S)
        else:
            self._page = page
            if page is None or page.first > number:
                self._lost(number, self._next if page is None else page.first)
        finally:
            self._loading = None
        self.pump()

    def _lost(self, first: int, end: int) -> None:
        """The store does not have these any more."""
        end = min(end, self._recent[0].first) if self._recent else end
        lost = [n for n in self._returned if first <= n < end]
        if lost:
            self._returned = [n for n in self._returned if n not in set(lost)]
            heapq.heapify(self._returned)
        if first <= self._cursor < end:
            lost += range(self._cursor, end)
            self._cursor = end
        log.error("%d messages of project %s are lost", len(lost), self.project_id)
        self._dropped += len(lost)
        # They count as dropped, not as delivered: ``first`` may move over them all the same.
        self._done.update(n for n in lost if n >= self._first)
        self._settle()
