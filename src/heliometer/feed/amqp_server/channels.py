"""The channels of one connection."""

from pamqp import commands
from pamqp.base import Frame

from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.channel import Channel
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.amqp_server.frames import METHOD, ack_of, encode, method_of
from heliometer.feed.amqp_server.wire import Wire


class FatalFault(Exception):
    """A fault that ends the connection, and the method that caused it."""

    def __init__(self, fault: Fault, method: Frame) -> None:
        super().__init__(fault.text)
        self.fault = fault
        self.method = method


class Channels:
    """Opens and closes channels, and hands their frames to them."""

    def __init__(self, wire: Wire, channel_max: int) -> None:
        self._wire = wire
        self.channel_max = channel_max
        self._open: dict[int, Channel] = {}

    def wake(self) -> None:
        """Deliver again: there may be room."""
        for channel in list(self._open.values()):
            channel.wake()

    def flush(self) -> None:
        """Pass acknowledgements on to the queues."""
        for channel in list(self._open.values()):
            channel.deliveries.flush()

    def close(self) -> None:
        """Close all channels, and return what is not acknowledged."""
        channels, self._open = list(self._open.values()), {}
        for channel in channels:
            channel.close()

    def receive(self, kind: int, number: int, data: bytes) -> None:
        """Handle a frame of a channel. Raises Fault, and FatalFault for a method that ends the
        connection."""
        channel = self._open.get(number)
        if kind != METHOD:
            if channel is None or not channel.closing:
                raise Fault(faults.UNEXPECTED_FRAME, "a message without Basic.Publish before it")
            return
        ack = ack_of(data) if channel is not None and not channel.closing else None
        if channel is not None and ack is not None:
            try:
                channel.deliveries.acknowledge(*ack)
            except Fault as fault:
                self._close_channel(channel, fault, commands.Basic.Ack())
            return
        method = method_of(data)
        if isinstance(method, commands.Channel.Open):
            self._open_one(number)
        elif channel is None:
            raise Fault(faults.CHANNEL_ERROR, f"channel {number} is not open")
        elif isinstance(method, commands.Channel.Close):
            channel.close()
            del self._open[number]
            self._wire.send(encode(commands.Channel.CloseOk(), number))
        elif isinstance(method, commands.Channel.CloseOk):
            if channel.closing:
                del self._open[number]
        elif not channel.closing:
            try:
                channel.handle(method)
            except Fault as fault:
                if fault.hard:
                    raise FatalFault(fault, method) from fault
                self._close_channel(channel, fault, method)

    def _open_one(self, number: int) -> None:
        if number > self.channel_max:
            raise Fault(
                faults.CHANNEL_ERROR, f"channel {number} is above the {self.channel_max} agreed on"
            )
        if number in self._open:
            raise Fault(faults.CHANNEL_ERROR, f"channel {number} is open already")
        self._open[number] = Channel(self._wire, number)
        self._wire.send(encode(commands.Channel.OpenOk(), number))

    def _close_channel(self, channel: Channel, fault: Fault, method: Frame) -> None:
        channel.close()
        index = method.index
        close = commands.Channel.Close(fault.code, fault.text, index >> 16, index & 0xFFFF)
        self._wire.send(encode(close, channel.number))
