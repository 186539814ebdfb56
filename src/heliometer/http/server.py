"""The HTTP listener: uvicorn, with our own way to start, drain and stop.

This overrides parts of uvicorn that have no public hook: per-connection timeouts, the size of
request heads, and a shutdown that loses no accepted connection. ``pyproject.toml`` therefore
bounds its version; see docs/decisions/0027-http-libraries.md before raising it.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from heliometer.config import Settings
from heliometer.http.refusing import refuse_new

FINISH_S = 8
"""Requests in progress at shutdown get this long to finish."""
FIRST_REQUEST_S = 0.5
"""A younger connection is kept at shutdown: its first request is on the way."""
SETTLE_S = 0.02
"""Lets pending handshakes complete and be accepted before the listener closes."""
KEEP_ALIVE_S = 75
REQUEST_S = 25
"""A request must arrive completely within this time, plus what its body takes at SLOWEST."""
SLOWEST = 64 << 10
"""Bytes a second. A body that comes more slowly is given up."""
HANDSHAKE_S = 20
"""A TLS handshake must be complete within this time."""
UNREAD_S = 15
"""A client that has not read half of what the connection holds for it within this time is cut."""
SWEEP_S = 2
HEAD_BYTES = 2 << 20
"""A longer request line with headers is refused here; shorter ones by the application, in the
form of the dialect."""
READ_AHEAD_BYTES = 512 << 10
"""Bytes of a body that are read before the application asks for them. uvicorn pauses at 64 KiB,
and pausing costs more than buffering a typical post."""


_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class _State(ServerState):
    """State that all connections share."""

    draining = False
    """Each connection closes after its next response, which announces it."""
    stopping = False
    """Idle connections are closed."""


class _Protocol(HttpToolsProtocol):
    """Closes connections that are idle or slow, which would stay forever: to send a request, or to
    read what was answered.

    One timer per connection compares a timestamp: cheaper than a timer per request.
    """

    server_state: _State
    _first_request: asyncio.TimerHandle | None = None
    _waiting_since: float | None = None
    _sweep: asyncio.TimerHandle | None = None
    _unread: tuple[int, float] | None = None
    """Bytes that wait for the client, and since when it has not read half of them."""
    _body_bytes = 0
    """Bytes received of the body of a request."""
    _head_bytes: int | None = None
    """Bytes received of an incomplete head; ``None`` outside a head."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._waiting_since = self._since = self.loop.time()
        self._sweep = self.loop.call_later(SWEEP_S, self._close_if_slow)
        if self.server_state.stopping:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:  # each piece copies all earlier ones
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        self._waiting_since = self.loop.time()
        self._head_bytes = self._body_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()
        if self.server_state.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if not self.cycle.response_complete:
            self.cycle.body += body
            if len(self.cycle.body) > READ_AHEAD_BYTES:
                self.flow.pause_reading()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._waiting_since = None
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        if self._first_request is not None:
            self._first_request.cancel()
        super().connection_lost(exc)

    def drain(self) -> None:
        """Announce in a response that has not started yet that the connection will close."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close now, or after the request in progress."""
        if self._head_bytes is not None:
            return  # half a head has arrived: its response will be the last
        if self.cycle is not None:
            super().shutdown()
        elif self._first_request is None:
            age_s = self.loop.time() - self._since
            self._first_request = self.loop.call_later(
                max(0.0, FIRST_REQUEST_S - age_s), self.shutdown
            )
        else:
            self.transport.close()

    def resume_writing(self) -> None:
        self._unread = None
        super().resume_writing()

    def _reads(self) -> bool:
        """Whether the client reads what it is sent."""
        now, size = self.loop.time(), self.transport.get_write_buffer_size()
        if not size:
            self._unread = None
        elif self._unread is None or 2 * size <= self._unread[0]:
            self._unread = size, now
        return self._unread is None or now - self._unread[1] <= UNREAD_S

    def _close_if_slow(self) -> None:
        since = self._waiting_since
        if not self._reads():
            self.transport.abort()  # closing would wait for the client
        elif since is not None and (
            self.loop.time() - since > REQUEST_S + self._body_bytes / SLOWEST
        ):
            self.transport.close()
        else:
            self._sweep = self.loop.call_later(SWEEP_S, self._close_if_slow)


class Server:
    """Serves an application on a bound socket until it is stopped.

    With settings it is the service's listener: it prints the ready line and handles signals.
    Without, it serves until ``stop``. SIGTERM drains first: for ``drain_s`` all requests are
    served, but ``leaving`` is called so that health reports it, and every response closes its
    connection, so that proxies go elsewhere. SIGINT stops without draining.
    """

    def __init__(
        self,
        app: Any,
        settings: Settings | None,
        drain_s: float = 0.0,
        leaving: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._drain_s = drain_s
        self._leaving = leaving
        tls: dict[str, Any] = {}
        if settings is not None and settings.server.tls_cert:
            tls = {
                "ssl_certfile": settings.server.tls_cert,
                "ssl_keyfile": settings.server.tls_key,
            }
        self._server = _Uvicorn(
            self._say_ready if settings is not None else lambda _: None,
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=2048,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=FINISH_S,
                **tls,
            ),
        )

    async def run(self, listener: socket.socket) -> int:
        """Serve until stopped; return the exit status."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            if self._settings is not None:
                for number, obey in ((signal.SIGTERM, self.drain), (signal.SIGINT, self.stop)):
                    loop.add_signal_handler(number, obey)
                    stack.callback(loop.remove_signal_handler, number)
            await self._server.serve(sockets=[listener])
        return 0

    def drain(self) -> None:
        """Serve for ``drain_s`` more, one request per connection; then stop."""
        state = self._server.state
        if state.draining or not self._drain_s:
            self.stop()
            return
        self._leaving()
        state.draining = True
        for connection in state.connections:
            assert isinstance(connection, _Protocol)
            connection.drain()
        asyncio.get_running_loop().call_later(self._drain_s, self._server.leave)

    def stop(self) -> None:
        """Accept no more requests, finish those in progress, then return from ``run``."""
        if self._server.should_exit:
            self._server.force_exit = True
        self._server.should_exit = True

    async def finish(self, running: asyncio.Task[int]) -> None:
        """Stop, and wait for the task that runs this, even if it was cancelled."""
        self.stop()
        await asyncio.wait({running})
        for server in self._server.servers:
            server.close()  # what a cancelled one has left open

    def _say_ready(self, listener: socket.socket) -> None:
        assert self._settings is not None
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"heliometer ready on {self._settings.scheme}://{shown}:{port}", flush=True)


class _Uvicorn(uvicorn.Server):
    """Without uvicorn's signal handlers: it raises caught signals again after the shutdown, so
    that the exit status would not be 0."""

    def __init__(self, ready: Callable[[socket.socket], None], settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self._ready = ready
        self.server_state = self.state = _State()

    def leave(self) -> None:
        """Ask the server to shut down."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, but give up handshakes that are not completed."""
        config = self.config
        connection = partial(_Protocol, config=config, server_state=self.state, app_state={})
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                connection,
                sock=listener,
                backlog=config.backlog,
                ssl=config.ssl,
                ssl_handshake_timeout=HANDSHAKE_S if config.ssl else None,
            )
            for listener in sockets or []
        ]
        self.started = True
        if sockets:
            self._ready(sockets[0])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.state.draining = True
        for listener in sockets or []:
            refuse_new(listener)
        await asyncio.sleep(SETTLE_S)
        self.state.stopping = True
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
