"""A connection: greeting, sign-in, heartbeats, and the channels on it (AMQP 0-9-1)."""

import asyncio
import logging
import socket
import struct
from typing import Any

from pamqp import commands, decode
from pamqp.base import Frame
from pamqp.common import FieldTable

from heliometer import __version__
from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.broker import Broker
from heliometer.feed.amqp_server.channel import Channel
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.amqp_server.frames import (
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL,
    Inbox,
    ack_of,
    encode,
    method_of,
)
from heliometer.feed.model import Endpoint
from heliometer.feed.queue import Queue

log = logging.getLogger(__name__)

C = commands.Connection
FIRST_FRAMES = 4096
"""Bytes of a frame before the client has signed in."""
SIGN_IN_S = 10.0
LEAVE_S = 3.0
"""How long a client has to answer a farewell."""
UNSENT = 1 << 17
"""Bytes that may wait to be sent before a connection gets no more messages."""
MECHANISMS = "PLAIN AMQPLAIN"
PROPERTIES: FieldTable = {
    "product": "Heliometer",
    "version": __version__,
    "platform": "Python",
    "information": "Consuming only: see the documentation, Stream your metrics",
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "per_consumer_qos": True,
        "publisher_confirms": True,
    },
}


class Connection(asyncio.Protocol):
    """One client. Whatever it sends, only its own connection suffers."""

    def __init__(self, broker: Broker, connected: "set[Connection]") -> None:
        self.broker = broker
        self._connected = connected
        """Every connection whose socket is open."""
        self.frame_max = broker.terms.frame_max
        self.own_queue: Queue | None = None
        self.writable = True
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is."""
        self._transport: asyncio.Transport | None = None
        self._inbox = Inbox(FIRST_FRAMES)
        self._channels: dict[int, Channel] = {}
        self._channel_max = broker.terms.channel_max
        self._endpoint: Endpoint | None = None
        self._wanted: type[Frame] | None = None
        """What the client has to send next; ``None``: it is in."""
        self._greeted = False
        self._entered = False
        self._leaving = False
        self._deaf = False
        self._told_why = False
        """Whether the client wants to hear why it may not come in."""
        self._heard_at = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def endpoint(self) -> Endpoint:
        """Whose client it is."""
        if self._endpoint is None:
            raise LookupError("nobody has signed in")
        return self._endpoint

    # -- the socket ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connected.add(self)
        transport.set_write_buffer_limits(high=UNSENT)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # A peer that vanished shows even where the client wants no heartbeats.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.broker.arrived(self)
        self._after(SIGN_IN_S, self._check_signed_in)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._connected.discard(self)
        self._leave()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        for channel in list(self._channels.values()):
            channel.wake()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if self._deaf:
            return
        self._inbox.put(data)
        try:
            if self._greeted or self._greet():
                self._read()
        except Fault as fault:
            self._bid_farewell(fault)
        except Exception:
            log.exception("a feed connection failed")
            self._bid_farewell(Fault(faults.INTERNAL_ERROR, "the server failed; its log says why"))

    def send(self, data: bytes) -> None:
        """Queue bytes for the client."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # -- the end ------------------------------------------------------------------------------

    def end(self, text: str) -> None:
        """Say why, and go."""
        self._bid_farewell(Fault(faults.CONNECTION_FORCED, text))

    def abort(self) -> None:
        """Go without a word."""
        if self._transport is not None:
            self._transport.abort()
        self._leave()

    def _bid_farewell(self, fault: Fault, method: Frame | None = None) -> None:
        if self._leaving:
            self._hang_up()
            return
        self._leave()
        self._leaving = True
        # After bytes that are no frames, nothing that follows can be understood.
        self._deaf = fault.code == faults.FRAME_ERROR
        index = method.index if method is not None else 0
        close = C.Close(fault.code, fault.text, index >> 16, index & 0xFFFF)
        self.send(encode(close, 0))
        self._after(LEAVE_S, self.abort)

    def _hang_up(self) -> None:
        self._deaf = True
        if self._transport is not None:
            self._transport.close()
            self._after(LEAVE_S, self.abort)

    def _leave(self) -> None:
        """Give everything back. Harmless when it is done already."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close()
        own, self.own_queue = self.own_queue, None
        if own is not None:
            self.broker.queues.unbind(own)
            own.close()
        self.broker.left(self, self._endpoint.vhost if self._endpoint else "")
        self._entered = False

    def _after(self, seconds: float, work: Any) -> None:
        self._timers.append(self._loop.call_later(seconds, work))

    # -- signing in ---------------------------------------------------------------------------

    def _greet(self) -> bool:
        """Whether the client has said what it speaks, and that is what we speak."""
        greeting = self._inbox.greeting()
        if greeting is None:
            return False
        if not greeting:
            # So says the protocol: answer with the version that is spoken here, and close.
            self.send(PROTOCOL)
            self._hang_up()
            return False
        self._greeted = True
        self._wanted = C.StartOk
        self.send(encode(C.Start(0, 9, PROPERTIES, MECHANISMS, "en_US"), 0))
        return True

    def _check_signed_in(self) -> None:
        if not self._entered:
            self.abort()

    def _start_ok(self, method: Any) -> None:
        capabilities = method.client_properties.get("capabilities")
        self._told_why = isinstance(capabilities, dict) and bool(
            capabilities.get("authentication_failure_close")
        )
        user, password = _credentials(method.mechanism, method.response)
        self._endpoint = self.broker.sign_in(user, password)
        if self._endpoint is None:
            log.info("the feed refused user %r", user[:80])
            self._refuse(method)
            return
        self._wanted = C.TuneOk
        terms = self.broker.terms
        self.send(encode(C.Tune(terms.channel_max, terms.frame_max, terms.heartbeat_s), 0))

    def _refuse(self, method: Frame) -> None:
        fault = Fault(
            faults.ACCESS_REFUSED,
            "login refused: wrong user or password; POST /v1.1/endpoints/ID/reset-password makes "
            "a new one",
            hard=True,
        )
        if self._told_why:
            self._bid_farewell(fault, method)
        else:
            self._leave()
            self._hang_up()

    def _tune_ok(self, method: Any) -> None:
        terms = self.broker.terms
        frame_max = method.frame_max or terms.frame_max
        channel_max = (method.channel_max & 0xFFFF) or terms.channel_max
        if not FIRST_FRAMES <= frame_max <= terms.frame_max or channel_max > terms.channel_max:
            raise Fault(
                faults.NOT_ALLOWED,
                f"frame_max must be {FIRST_FRAMES} to {terms.frame_max}, channel_max at most "
                f"{terms.channel_max}",
            )
        self.frame_max = self._inbox.largest = frame_max
        self._channel_max = channel_max
        self._wanted = C.Open
        heartbeat = method.heartbeat & 0xFFFF
        if heartbeat:
            self._after(heartbeat / 2, lambda: self._beat(heartbeat / 2, 2 * heartbeat))

    def _open(self, method: Any) -> None:
        if method.virtual_host != self.endpoint.vhost:
            raise Fault(
                faults.NOT_ALLOWED,
                f"vhost {method.virtual_host!r} is not for user {self.endpoint.user!r}; "
                f"yours is {self.endpoint.vhost}",
            )
        against = self.broker.entered(self, self.endpoint.vhost)
        if against:
            raise Fault(faults.NOT_ALLOWED, against)
        self._entered = True
        self._wanted = None
        self.send(encode(C.OpenOk(), 0))

    def _beat(self, every_s: float, patience_s: float) -> None:
        if self._loop.time() - self._heard_at > patience_s:
            self.abort()
            return
        if self.writable:
            self.send(HEARTBEAT_FRAME)
        self._timers = [t for t in self._timers if t.when() > self._loop.time()]
        self._after(every_s, lambda: self._beat(every_s, patience_s))

    # -- frames -------------------------------------------------------------------------------

    def _read(self) -> None:
        for kind, number, data in self._inbox.frames():
            if self._leaving:
                self._await_farewell(kind, data)
            elif kind == HEARTBEAT:
                pass
            elif number == 0:
                self._on_connection(kind, data)
            else:
                self._on_channel(kind, number, data)
            if self._deaf:
                break
        for channel in list(self._channels.values()):
            channel.flush()

    def _await_farewell(self, kind: int, data: bytes) -> None:
        if kind != METHOD:
            return
        method = method_of(data)
        if isinstance(method, C.Close):
            self.send(encode(C.CloseOk(), 0))
        if isinstance(method, C.Close | C.CloseOk):
            self._hang_up()

    def _on_connection(self, kind: int, data: bytes) -> None:
        if kind != METHOD:
            raise Fault(faults.UNEXPECTED_FRAME, "there are no messages on channel 0")
        method = method_of(data)
        if isinstance(method, C.Close):
            self._leave()
            self.send(encode(C.CloseOk(), 0))
            self._hang_up()
            return
        if self._wanted is None or not isinstance(method, self._wanted):
            wanted = f"; {self._wanted.name} is expected" if self._wanted else ""
            raise Fault(faults.COMMAND_INVALID, f"{method.name} on channel 0{wanted}")
        try:
            {C.StartOk: self._start_ok, C.TuneOk: self._tune_ok, C.Open: self._open}[type(method)](
                method
            )
        except Fault as fault:
            self._bid_farewell(fault, method)

    def _on_channel(self, kind: int, number: int, data: bytes) -> None:
        if self._wanted is not None:
            raise Fault(faults.COMMAND_INVALID, f"{self._wanted.name} is expected first")
        channel = self._channels.get(number)
        if kind != METHOD:
            if channel is None or not channel.closing:
                raise Fault(faults.UNEXPECTED_FRAME, "a message without Basic.Publish before it")
            return
        ack = ack_of(data) if channel is not None and not channel.closing else None
        if channel is not None and ack is not None:
            try:
                channel.acknowledge(*ack)
            except Fault as fault:
                self._close_channel(channel, fault, commands.Basic.Ack())
            return
        method = method_of(data)
        if isinstance(method, commands.Channel.Open):
            self._open_channel(number)
        elif channel is None:
            raise Fault(faults.CHANNEL_ERROR, f"channel {number} is not open")
        elif isinstance(method, commands.Channel.Close):
            channel.close()
            del self._channels[number]
            self.send(encode(commands.Channel.CloseOk(), number))
        elif isinstance(method, commands.Channel.CloseOk):
            if channel.closing:
                del self._channels[number]
        elif not channel.closing:
            try:
                channel.handle(method)
            except Fault as fault:
                if fault.hard:
                    self._bid_farewell(fault, method)
                else:
                    self._close_channel(channel, fault, method)

    def _open_channel(self, number: int) -> None:
        if number > self._channel_max:
            raise Fault(
                faults.CHANNEL_ERROR, f"channel {number} is above the {self._channel_max} agreed on"
            )
        if number in self._channels:
            raise Fault(faults.CHANNEL_ERROR, f"channel {number} is open already")
        self._channels[number] = Channel(self, number)
        self.send(encode(commands.Channel.OpenOk(), number))

    def _close_channel(self, channel: Channel, fault: Fault, method: Frame) -> None:
        channel.close()
        index = method.index
        close = commands.Channel.Close(fault.code, fault.text, index >> 16, index & 0xFFFF)
        self.send(encode(close, channel.number))


def _credentials(mechanism: str, response: str | bytes) -> tuple[str, str]:
    """User and password out of a sign-in. Raises Fault."""
    given = response.encode() if isinstance(response, str) else bytes(response)
    try:
        if mechanism == "PLAIN":
            _, user, password = given.split(b"\0")
            return user.decode(), password.decode()
        if mechanism == "AMQPLAIN":
            _, table = decode.field_table(struct.pack(">I", len(given)) + given)
            return str(table["LOGIN"]), str(table["PASSWORD"])
    except Exception as error:  # whatever a decoder meets in bytes from anywhere
        raise Fault(faults.SYNTAX_ERROR, f"the {mechanism} response cannot be read") from error
    raise Fault(faults.NOT_ALLOWED, f"mechanism {mechanism!r} is none of {MECHANISMS}")
