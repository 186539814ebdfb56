"""The HTTP listener: uvicorn, started and stopped by us."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from heliometer.config import Settings
from heliometer.http.refusing import refuse_new

FINISH_S = 8
"""Requests under way when the service stops get this long to finish."""
FIRST_REQUEST_S = 0.5
"""A connection this young has its first request on the way: whoever opened it did so to ask."""
SETTLE_S = 0.02
"""Until who wants to connect has done so, and has been accepted."""
KEEP_ALIVE_S = 75
REQUEST_S = 60
"""A request that has not arrived whole by then is given up, and its connection closed."""
SWEEP_S = 10
HEAD_BYTES = 2 << 20
"""A request line and headers beyond this are not read on. Up to it the application says what is
wrong with them, in the dialect's form."""
READ_AHEAD_BYTES = 512 << 10
"""What is read of a body before the application asks for it. uvicorn stops at 64 KiB, and stopping
and starting again costs more than the posts that we expect are large."""


_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class _State(ServerState):
    """What all connections know."""

    draining = False
    """Each connection is closed after its next answer, which says so."""
    stopping = False
    """Connections that nobody uses are closed."""


class _Protocol(HttpToolsProtocol):
    """Closes connections that are slow to ask, or silent: they would stay for ever.

    One timer a connection looks at a time stamp, because a timer for each request costs more.
    """

    server_state: _State
    _first_request: asyncio.TimerHandle | None = None
    _waiting_since: float | None = None
    _sweep: asyncio.TimerHandle | None = None
    _head_bytes: int | None = None
    """What was read of the head that is under way; ``None``: none is."""

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
            if self._head_bytes > HEAD_BYTES:  # each piece copies all that went before
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        self._waiting_since = self.loop.time()
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()
        if self.server_state.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
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
        """Say in the answer that is under way, if it has not begun, that no other follows."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close when nothing is under way, and otherwise as soon as that is so."""
        if self._head_bytes is not None:
            return  # half a head has been read: its answer will be the last
        if self.cycle is not None:
            super().shutdown()
        elif self._first_request is None:
            age_s = self.loop.time() - self._since
            self._first_request = self.loop.call_later(
                max(0.0, FIRST_REQUEST_S - age_s), self.shutdown
            )
        else:
            self.transport.close()

    def _close_if_slow(self) -> None:
        since = self._waiting_since
        if since is not None and self.loop.time() - since > REQUEST_S:
            self.transport.close()
        else:
            self._sweep = self.loop.call_later(SWEEP_S, self._close_if_slow)


class Server:
    """Serves an application on a bound socket until it is stopped.

    With settings it is the service's listener: it prints the ready line and obeys signals.
    Without, it serves quietly until ``stop``. SIGTERM first drains: for ``drain_s`` everything is
    served as before, but ``leaving`` is told so that health says it, and each answer is the last of
    its connection, so that proxies go elsewhere. Ctrl-C does without.
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
        """Go on serving for a while, but no connection for longer than a request; then stop."""
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
        """Take no more requests, finish those under way, then return from ``run``."""
        if self._server.should_exit:
            self._server.force_exit = True
        self._server.should_exit = True

    async def finish(self, running: asyncio.Task[int]) -> None:
        """Stop, and wait until the task that runs this has ended."""
        self.stop()
        await running

    def _say_ready(self, listener: socket.socket) -> None:
        assert self._settings is not None
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"heliometer ready on {self._settings.scheme}://{shown}:{port}", flush=True)


class _Uvicorn(uvicorn.Server):
    """uvicorn raises the signals it caught again after it has drained, so that the exit status
    would not be 0; our own handlers replace its."""

    def __init__(self, ready: Callable[[socket.socket], None], settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self._ready = ready
        self.server_state = self.state = _State()

    def leave(self) -> None:
        """Begin to stop."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
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
