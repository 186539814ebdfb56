"""What a channel has delivered and what became of it, by delivery tag."""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Protocol

from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.queue import Queue


class Counting(Protocol):
    """A consumer, which counts its unacknowledged messages."""

    unacknowledged: int


class Deliveries:
    """The deliveries of one channel. Acknowledgements are collected until ``flush``."""

    def __init__(self) -> None:
        self.unacknowledged: dict[int, tuple[Queue, int, Counting | None]] = {}
        """Queue, message and consumer by delivery tag, in order."""
        self.last_tag = 0
        self._acknowledged: dict[Queue, list[int]] = {}

    def done(self, queue: Queue, numbers: Iterable[int]) -> None:
        """These messages need no acknowledgement, or have it."""
        self._acknowledged.setdefault(queue, []).extend(numbers)

    def acknowledge(self, tag: int, multiple: bool) -> None:
        """Settle a delivery; ``multiple``: all up to it, or with tag 0 all. Raises Fault."""
        for queue, number in self._settle(tag, multiple):
            self._acknowledged.setdefault(queue, []).append(number)

    def give_back(self, tag: int, multiple: bool, requeue: bool) -> None:
        """Return deliveries to their queue, or drop them. Raises Fault."""
        self.flush()
        for queue, number in self._settle(tag, multiple):
            if requeue:
                queue.give_back((number,))
            else:
                queue.acknowledge((number,))

    def give_back_all(self) -> None:
        """Return everything that is not acknowledged."""
        self.flush()
        by_queue: dict[Queue, list[int]] = {}
        for queue, number, consumer in list(self.unacknowledged.values()):
            by_queue.setdefault(queue, []).append(number)
            if consumer is not None:
                consumer.unacknowledged -= 1
        self.unacknowledged.clear()
        for queue, numbers in by_queue.items():
            queue.give_back(numbers)

    def flush(self) -> None:
        """Pass acknowledgements on to the queues."""
        while self._acknowledged:
            queue, numbers = self._acknowledged.popitem()
            queue.acknowledge(numbers)

    def _settle(self, tag: int, multiple: bool) -> list[tuple[Queue, int]]:
        """Remove deliveries from those that are not acknowledged. Raises Fault."""
        waiting = self.unacknowledged
        if not multiple:
            tags: Sequence[int] = (tag,)
        elif tag == 0:
            tags = list(waiting)
        else:
            tags = list(takewhile(lambda t: t <= tag, waiting))
        if (tag or not multiple) and tag not in waiting:
            raise Fault(faults.PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        settled = []
        for each in tags:
            queue, number, consumer = waiting.pop(each)
            if consumer is not None:
                consumer.unacknowledged -= 1
            settled.append((queue, number))
        return settled
