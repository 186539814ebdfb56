"""Which messages of a queue are waiting, delivered or settled: numbers only.

Messages are numbered without gaps. Those below ``first`` are settled; those from ``cursor`` on were
never delivered. In between are messages that a consumer has, that were acknowledged before an older
one, or that were returned.
"""

import heapq
from collections.abc import Iterable, Sequence

from heliometer.feed.model import Position


class Ledger:
    """The state of a queue's messages."""

    def __init__(self, position: Position) -> None:
        self.first = position.first
        self.next = position.next
        """The number of the message to be published next."""
        self.cursor = position.first
        self.delivered = position.delivered
        self.dropped = position.dropped
        self.seen = position.seen
        """Messages with smaller numbers may have been delivered before."""
        self.out: set[int] = set()
        """Messages that consumers have."""
        self.returned: list[int] = []
        """A heap of messages to be delivered again."""
        self._done: set[int] = set()
        """Messages that were acknowledged before an older one."""
        self.changed = False
        """Whether ``position`` has changed since this was last set to False."""

    @property
    def ready(self) -> int:
        """How many messages wait for a consumer."""
        return self.next - self.cursor + len(self.returned)

    @property
    def head(self) -> int | None:
        """The next message to deliver, if any."""
        if self.returned:
            return self.returned[0]
        return self.cursor if self.cursor < self.next else None

    def position(self) -> Position:
        """What a later process needs to continue: messages from ``first`` on are not settled."""
        dropped = self.dropped + sum(1 for n in self.out if n < self.first)
        return Position(self.first, self.next, self.first - dropped, dropped, self.cursor)

    def publish(self, count: int) -> None:
        """Number so many messages."""
        self.next += count
        self.changed = True

    def deliver(self, numbers: Iterable[int]) -> None:
        """Record that a consumer holds these messages."""
        self.out.update(numbers)
        self.changed = True

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """Settle messages that a consumer has; others are ignored."""
        for number in numbers:
            if number not in self.out:
                continue
            self.out.discard(number)
            self.delivered += 1
            if number >= self.first:
                self._done.add(number)
        self._advance()

    def give_back(self, numbers: Iterable[int]) -> None:
        """Messages that a consumer has are to be delivered again, before newer ones."""
        for number in numbers:
            if number not in self.out:
                continue
            self.out.discard(number)
            if number >= self.first:
                heapq.heappush(self.returned, number)
            else:
                self.dropped += 1
        self.changed = True

    def drop_to(self, first: int) -> bool:
        """Drop the messages before ``first`` that no consumer has; whether there were any."""
        first = min(first, self.next)
        if first <= self.first:
            return False
        gone = first - self.first
        kept = sum(1 for n in self.out if self.first <= n < first)
        over = [n for n in self._done if n < first]
        self._done.difference_update(over)
        self.dropped += gone - kept - len(over)
        if self.returned and self.returned[0] < first:
            self.returned = [n for n in self.returned if n >= first]
            heapq.heapify(self.returned)
        self.first = first
        self.cursor = max(self.cursor, first)
        self._advance()
        return True

    def lose(self, first: int, end: int) -> Sequence[int]:
        """Give up the waiting messages of [first, end); return their numbers."""
        lost = [n for n in self.returned if first <= n < end]
        if lost:
            self.returned = [n for n in self.returned if n not in set(lost)]
            heapq.heapify(self.returned)
        if first <= self.cursor < end:
            lost += range(self.cursor, end)
            self.cursor = end
        self.dropped += len(lost)
        # They count as dropped, not as delivered, and ``first`` may advance past them.
        self._done.update(n for n in lost if n >= self.first)
        self._advance()
        return lost

    def _advance(self) -> None:
        """Move ``first`` past settled messages."""
        self.changed = True
        while self.first in self._done:
            self._done.discard(self.first)
            self.first += 1
