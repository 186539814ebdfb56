"""A queue of messages and its consumers, which take turns.

Everything runs in the event loop; only reading older messages from the store waits.
"""

import asyncio
import heapq
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from heliometer.core.background import Ended
from heliometer.core.errors import HeliometerError
from heliometer.feed.ledger import Ledger
from heliometer.feed.message_cache import RECENT, MessageCache
from heliometer.feed.model import Chunk, Position, Usage
from heliometer.feed.ports import MessageStore

log = logging.getLogger(__name__)

AT_ONCE = 256
"""The most messages that a consumer gets in one turn."""
BYTES_AT_ONCE = 1 << 18
"""The most bytes of them, unless a single message is larger."""
OUT = 100_000
"""The most unacknowledged messages of a queue, whatever its consumers ask for."""
RETRY_S = 1.0


class Message(NamedTuple):
    """A message as it is delivered to a consumer."""

    number: int
    body: bytes
    redelivered: bool
    """Whether it may have been delivered before."""


class Consumer(Protocol):
    """Takes messages, and later acknowledges or returns each."""

    def room(self) -> int:
        """How many messages it takes now."""
        ...

    def take(self, messages: Sequence[Message]) -> None:
        """Take at most ``room`` messages."""
        ...


class Queue:
    """The messages of one project, delivered in order to consumers that share them.

    Without a store it lives in memory only, with at most ``limit`` messages.
    """

    def __init__(
        self, project_id: str, position: Position, store: MessageStore | None, limit: int
    ) -> None:
        self.project_id = project_id
        self._store = store
        self._limit = limit
        self._ledger = Ledger(position)
        self._cache = MessageCache()
        self._consumers: list[Consumer] = []
        self._turn = 0
        self._loading: asyncio.Task[None] | None = None
        self._closed = False
        self._pumping = False

    @property
    def next(self) -> int:
        """The number of the message to be published next."""
        return self._ledger.next

    @property
    def ready(self) -> int:
        """How many messages wait for a consumer."""
        return self._ledger.ready

    @property
    def consumers(self) -> int:
        """How many consumers are attached."""
        return len(self._consumers)

    @property
    def changed(self) -> bool:
        """Whether ``position`` has changed since this was last set to False."""
        return self._ledger.changed

    @changed.setter
    def changed(self, value: bool) -> None:
        self._ledger.changed = value

    def usage(self) -> Usage:
        """Counts of the queue's messages."""
        ledger = self._ledger
        queued = ledger.next - ledger.delivered - ledger.dropped
        return Usage(ledger.next, queued, ledger.delivered, ledger.dropped, len(self._consumers))

    def position(self) -> Position:
        """What a later process needs to continue: messages from ``first`` on are not settled."""
        return self._ledger.position()

    def publish(self, chunk: Chunk) -> None:
        """Add messages that are stored now; their numbers start at ``next``."""
        if chunk.first != self._ledger.next:
            raise ValueError(f"message {chunk.first} is not next, but {self._ledger.next}")
        self._ledger.publish(len(chunk.bodies))
        self._cache.add(chunk)
        self._ledger.drop_to(self._ledger.next - self._limit)
        self._trim()
        self.pump()

    def drop_to(self, first: int) -> None:
        """Drop the messages before ``first``, except those that consumers have."""
        if self._ledger.drop_to(first):
            self._settled()

    def attach(self, consumer: Consumer) -> None:
        """Deliver to a consumer from now on."""
        self._consumers.append(consumer)
        self.pump()

    def detach(self, consumer: Consumer) -> None:
        """Deliver nothing more to a consumer; it keeps the messages that it has."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """Settle messages that a consumer has."""
        self._ledger.acknowledge(numbers)
        self._settled()
        self.pump()

    def give_back(self, numbers: Iterable[int]) -> None:
        """Messages that a consumer has are to be delivered again, before newer ones."""
        self._ledger.give_back(numbers)
        self.pump()

    def close(self) -> None:
        """Deliver nothing any more."""
        self._closed = True
        self._consumers.clear()
        if self._loading is not None:
            self._loading.cancel()

    def pump(self) -> None:
        """Deliver waiting messages to consumers that have room."""
        if self._pumping:  # called by a consumer that acknowledges while it takes
            return
        self._pumping = True
        try:
            while self._deliver():
                pass
        finally:
            self._pumping = False

    def _deliver(self) -> bool:
        """Give one consumer some messages; whether that was possible."""
        number = self._ledger.head
        room = OUT - len(self._ledger.out)
        if self._closed or number is None or room <= 0:
            return False
        consumer = self._with_room()
        if consumer is None:
            return False
        chunk = self._cache.find(number)
        if chunk is None:
            self._load(number)
            return False
        messages = self._take(chunk, min(consumer.room(), room, AT_ONCE))
        self._ledger.deliver(m.number for m in messages)
        consumer.take(messages)
        return True

    def _with_room(self) -> Consumer | None:
        for step in range(len(self._consumers)):
            turn = (self._turn + step) % len(self._consumers)
            if self._consumers[turn].room() > 0:
                self._turn = turn + 1
                return self._consumers[turn]
        return None

    def _take(self, chunk: Chunk, number: int) -> list[Message]:
        """The next messages, as far as they are in the chunk."""
        ledger = self._ledger
        end = chunk.first + len(chunk.bodies)
        if ledger.returned:
            messages: list[Message] = []
            left = BYTES_AT_ONCE
            while ledger.returned and len(messages) < number and left > 0:
                at = ledger.returned[0]
                if not chunk.first <= at < end:
                    break
                heapq.heappop(ledger.returned)
                body = chunk.bodies[at - chunk.first]
                left -= len(body)
                messages.append(Message(at, body, True))
            return messages
        first = ledger.cursor
        bodies = chunk.bodies[first - chunk.first : first - chunk.first + number]
        if sum(map(len, bodies)) > BYTES_AT_ONCE:
            bodies = bodies[: max(1, BYTES_AT_ONCE // max(map(len, bodies)))]
        ledger.cursor += len(bodies)
        seen = ledger.seen
        return [Message(at, body, at < seen) for at, body in enumerate(bodies, first)]

    def _trim(self) -> None:
        """Keep in memory what may be delivered soon, up to a bound; without a store, all."""
        if self._store is None:
            self._cache.trim(self._ledger.first, None)
        else:
            self._cache.trim(self._ledger.cursor, RECENT if self._consumers else 0)

    def _settled(self) -> None:
        if self._store is None:
            self._trim()

    def _load(self, number: int) -> None:
        if self._loading is None:
            self._loading = asyncio.create_task(self._read(number), name="feed page")
            self._loading.add_done_callback(self._loaded)

    def _loaded(self, task: asyncio.Task[None]) -> None:
        error = Ended("it was cancelled") if task.cancelled() else task.exception()
        if error is None:
            self._load_again()
        elif not self._closed:
            log.error(
                "messages of project %s cannot be read: %s", self.project_id, error,
                exc_info=None if isinstance(error, HeliometerError | Ended) else error,
            )  # fmt: skip
            asyncio.get_running_loop().call_later(RETRY_S, self._load_again)

    def _load_again(self) -> None:
        self._loading = None
        self.pump()

    async def _read(self, number: int) -> None:
        assert self._store is not None
        page = await self._store.read(self.project_id, number)
        self._cache.page = page
        if page is None or page.first > number:
            self._lost(number, self._ledger.next if page is None else page.first)

    def _lost(self, first: int, end: int) -> None:
        """The store does not have these messages any more."""
        recent = self._cache.first_recent
        lost = self._ledger.lose(first, end if recent is None else min(end, recent))
        log.error("%d messages of project %s are lost", len(lost), self.project_id)
        self._settled()
