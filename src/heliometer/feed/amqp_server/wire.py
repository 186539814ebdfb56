"""A channel's connection, as its parts see it."""

from typing import Protocol

from pamqp.base import Frame

from heliometer.feed.amqp_server.broker import Broker
from heliometer.feed.amqp_server.frames import encode
from heliometer.feed.model import Endpoint
from heliometer.feed.queue import Queue


class Wire(Protocol):
    """What channels need of their connection."""

    broker: Broker
    frame_max: int
    own_queue: Queue | None
    """The connection's server-named queue."""

    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def writable(self) -> bool: ...
    def send(self, data: bytes) -> None: ...


def reply(wire: Wire, channel: int, method: Frame) -> None:
    """Send a method on a channel."""
    wire.send(encode(method, channel))
