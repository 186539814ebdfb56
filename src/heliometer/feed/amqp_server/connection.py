"""A connection: greeting, sign-in, heartbeats, and the channels on it (AMQP 0-9-1)."""

import asyncio
import logging
import socket
from typing import Any

from pamqp import commands
from pamqp.base import Frame

from heliometer.feed.amqp_server import faults
from heliometer.feed.amqp_server.broker import Broker
from heliometer.feed.amqp_server.channels import Channels, FatalFault
from heliometer.feed.amqp_server.faults import Fault
from heliometer.feed.amqp_server.frames import (
    HEARTBEAT,
    HEARTBEAT_FRAME,
    METHOD,
    PROTOCOL,
    Inbox,
    encode,
    method_of,
)
from heliometer.feed.amqp_server.sign_in import FIRST_FRAMES, SignIn, WrongPassword
from heliometer.feed.model import Endpoint
from heliometer.feed.queue import Queue

log = logging.getLogger(__name__)

C = commands.Connection
SIGN_IN_S = 10.0
LEAVE_S = 3.0
"""How long a client may take to confirm that the connection is closed."""
UNSENT = 1 << 17
"""With more unsent bytes than this, a connection gets no more messages."""


class Connection(asyncio.Protocol):
    """One client. Whatever it sends affects only its own connection."""

    def __init__(self, broker: Broker, connected: "set[Connection]") -> None:
        self.broker = broker
        self._connected = connected
        """All connections whose socket is open."""
        self.frame_max = broker.terms.frame_max
        self.own_queue: Queue | None = None
        self.writable = True
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the socket is closed."""
        self._transport: asyncio.Transport | None = None
        self._inbox = Inbox(FIRST_FRAMES)
        self._channels = Channels(self, broker.terms.channel_max)
        self._sign_in = SignIn(broker)
        self._greeted = False
        self._entered = False
        self._leaving = False
        self._deaf = False
        self._heard_at = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint whose user has signed in."""
        if self._sign_in.endpoint is None:
            raise LookupError("nobody has signed in")
        return self._sign_in.endpoint

    # -- the socket ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connected.add(self)
        transport.set_write_buffer_limits(high=UNSENT)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._sign_in.address = str(peer[0])
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # Notices a client that vanished, even one that wants no heartbeats.
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
        self._channels.wake()

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
        """Close the connection with a reason."""
        self._bid_farewell(Fault(faults.CONNECTION_FORCED, text))

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        self._leave()

    def _bid_farewell(self, fault: Fault, method: Frame | None = None) -> None:
        if self._leaving:
            self._hang_up()
            return
        self._leave()
        self._leaving = True
        # After a malformed frame nothing that follows can be understood.
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
        """Give back all messages and timers. Does nothing the second time."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._channels.close()
        own, self.own_queue = self.own_queue, None
        if own is not None:
            self.broker.queues.unbind(own)
            own.close()
        endpoint = self._sign_in.endpoint
        self.broker.left(self, endpoint.vhost if endpoint else "")
        self._entered = False

    def _after(self, seconds: float, work: Any) -> None:
        self._timers.append(self._loop.call_later(seconds, work))

    # -- signing in ---------------------------------------------------------------------------

    def _greet(self) -> bool:
        """Whether the client has sent the header of a protocol that is served here."""
        greeting = self._inbox.greeting()
        if greeting is None:
            return False
        if not greeting:
            # As the protocol demands: answer with our version, and close.
            self.send(PROTOCOL)
            self._hang_up()
            return False
        self._greeted = True
        self.send(encode(self._sign_in.start(), 0))
        return True

    def _check_signed_in(self) -> None:
        if not self._entered:
            self.abort()

    def _start_ok(self, method: Any) -> None:
        try:
            self.send(encode(self._sign_in.start_ok(method), 0))
        except WrongPassword as refused:
            if refused.tell:
                self._bid_farewell(refused.fault, method)
            else:
                self._leave()
                self._hang_up()

    def _tune_ok(self, method: Any) -> None:
        agreed = self._sign_in.tune_ok(method)
        self.frame_max = self._inbox.largest = agreed.frame_max
        self._channels.channel_max = agreed.channel_max
        if agreed.heartbeat_s:
            every_s = agreed.heartbeat_s / 2
            self._after(every_s, lambda: self._beat(every_s, 2 * agreed.heartbeat_s))

    def _open(self, method: Any) -> None:
        endpoint = self._sign_in.check_vhost(method)
        against = self.broker.entered(self, endpoint.vhost)
        if against:
            raise Fault(faults.NOT_ALLOWED, against)
        self._entered = True
        self._sign_in.done()
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
        self._channels.flush()

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
        expected = self._sign_in.wanted
        if expected is None or not isinstance(method, expected):
            wanted = f"; {expected.name} is expected" if expected else ""
            raise Fault(faults.COMMAND_INVALID, f"{method.name} on channel 0{wanted}")
        try:
            {C.StartOk: self._start_ok, C.TuneOk: self._tune_ok, C.Open: self._open}[type(method)](
                method
            )
        except Fault as fault:
            self._bid_farewell(fault, method)

    def _on_channel(self, kind: int, number: int, data: bytes) -> None:
        expected = self._sign_in.wanted
        if expected is not None:
            raise Fault(faults.COMMAND_INVALID, f"{expected.name} is expected first")
        try:
            self._channels.receive(kind, number, data)
        except FatalFault as error:
            self._bid_farewell(error.fault, error.method)
