"""What takes messages of a queue for a channel: a consumer, or a single get."""

from collections.abc import Sequence
from typing import Protocol

from heliometer.feed.amqp_server.deliveries import Deliveries
from heliometer.feed.amqp_server.frames import Envelope
from heliometer.feed.amqp_server.wire import Wire
from heliometer.feed.queue import AT_ONCE, Message, Queue


class Deliverer(Protocol):
    """What consumers need of their channel."""

    wire: Wire
    number: int
    flowing: bool
    closing: bool
    prefetch: int
    deliveries: Deliveries

    def deliver(
        self,
        queue: Queue,
        messages: Sequence[Message],
        link: "ChannelConsumer",
        envelope: Envelope,
    ) -> None: ...
    def answer(self, getter: "Getter", message: Message) -> None: ...


class ChannelConsumer:
    """A consumer on a channel."""

    def __init__(
        self, channel: Deliverer, queue: Queue, tag: str, no_ack: bool, prefetch: int
    ) -> None:
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.unacknowledged = 0
        self._channel = channel
        self._prefetch = prefetch
        self._envelope = Envelope(channel.number, tag, channel.wire.frame_max)

    def room(self) -> int:
        """As many as prefetch, flow control and the socket allow."""
        channel = self._channel
        if not channel.flowing or not channel.wire.writable or channel.closing:
            return 0
        if self.no_ack:
            return AT_ONCE
        room = self._prefetch - self.unacknowledged
        if channel.prefetch:
            room = min(room, channel.prefetch - len(channel.deliveries.unacknowledged))
        return room

    def take(self, messages: Sequence[Message]) -> None:
        if not self.no_ack:
            self.unacknowledged += len(messages)
        self._channel.deliver(self.queue, messages, self, self._envelope)
        if self.no_ack:
            # After the queue has noted that the consumer has them.
            self._channel.deliveries.flush()


class Getter:
    """Takes one message for Basic.Get."""

    def __init__(self, channel: Deliverer, queue: Queue, no_ack: bool) -> None:
        self.queue = queue
        self.no_ack = no_ack
        self._channel = channel

    def room(self) -> int:
        return 1

    def take(self, messages: Sequence[Message]) -> None:
        self.queue.detach(self)
        self._channel.answer(self, messages[0])
