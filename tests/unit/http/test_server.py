"""How the listener stops: what it still serves, and what it tells."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from certificates import make
from effort import effort
from heliometer.config import load
from heliometer.http import server
from heliometer.http.server import Server

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SOON_S = 20.0
"""Less than PATIENCE_S, and more than a busy machine needs."""
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has just been opened is waited for longer than any test takes."""
    monkeypatch.setattr(server, "FIRST_REQUEST_S", PATIENCE_S)


class Running:
    """A server that answers 204, to ``/slow`` only when told to, on a port of its own."""

    def __init__(self, drain_s: float = 0.0) -> None:
        self.left = False
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.server = Server(self, None, drain_s, self._leave)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.address = self._listener.getsockname()
        self.task = asyncio.create_task(self.server.run(self._listener))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        if scope["path"] == "/slow":
            self.asked.set()
            await self.answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def _leave(self) -> None:
        self.left = True

    async def connect(self) -> "Client":
        """A new connection."""
        return Client(*await asyncio.open_connection(*self.address))


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> bytes:
        """The next answer, without a body."""
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), SOON_S)

    async def ask(self, path: str = "/") -> bytes:
        """Ask, and return the answer."""
        self.writer.write(GET.replace(b"/ ", f"{path} ".encode(), 1))
        return await self.reply()

    async def is_closed(self) -> bool:
        """Whether the server has ended the connection, or does so soon."""
        return await asyncio.wait_for(self.reader.read(1), SOON_S) == b""


@asynccontextmanager
async def running(drain_s: float = 0.0) -> AsyncIterator[Running]:
    """One that runs, and is stopped in the end."""
    started = Running(drain_s)
    await (await started.connect()).ask()
    yield started
    if not started.task.done():
        started.server.stop()
    assert await asyncio.wait_for(started.task, SOON_S) == 0


@pytest.mark.parametrize("how", ["stop", "drain"])
def test_one_that_is_idle_stops_at_once(how: str) -> None:
    async def scenario() -> None:
        async with running() as it:
            client = await it.connect()
            await client.ask()
            getattr(it.server, how)()
            assert await client.is_closed()
            await asyncio.wait_for(it.task, SOON_S)
            with pytest.raises(ConnectionRefusedError):
                await it.connect()

    asyncio.run(scenario())


def test_requests_under_way_are_finished() -> None:
    async def scenario() -> None:
        async with running() as it:
            slow, half, body = [await it.connect() for _ in range(3)]
            await half.ask()
            asked = asyncio.create_task(slow.ask("/slow"))
            half.writer.write(GET[:20])
            body.writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
            await it.asked.wait()
            # What was sent before a request that is answered has arrived as well.
            await (await it.connect()).ask()
            it.server.stop()
            await asyncio.sleep(0.2)
            it.answer.set()
            half.writer.write(GET[20:])
            body.writer.write(b"cd")
            for reply in (await asked, await half.reply(), await body.reply()):
                assert reply.startswith(b"HTTP/1.1 204")
                assert b"connection: close" in reply

    asyncio.run(scenario())


def test_who_has_just_connected_is_served() -> None:
    async def scenario() -> None:
        async with running() as it:
            # Blocking: they wait to be accepted until we let the server run.
            waiting = [socket.create_connection(it.address) for _ in range(50)]
            it.server.stop()
            for each in waiting:
                each.setblocking(False)
            clients = [Client(*await asyncio.open_connection(sock=s)) for s in waiting]
            await asyncio.sleep(0.2)
            for client in clients:
                assert (await client.ask()).startswith(b"HTTP/1.1 204")

    asyncio.run(scenario())


def test_who_connected_and_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.1)

    async def scenario() -> None:
        async with running() as it:
            silent = await it.connect()
            await asyncio.sleep(0.1)
            it.server.stop()
            assert await silent.is_closed()
            await asyncio.wait_for(it.task, SOON_S)

    asyncio.run(scenario())


def test_draining_serves_everybody_once_more() -> None:
    async def scenario() -> None:
        async with running(PATIENCE_S) as it:
            idle, slow, unused = [await it.connect() for _ in range(3)]
            assert b"connection: close" not in await idle.ask()
            await unused.ask()
            asked = asyncio.create_task(slow.ask("/slow"))
            await it.asked.wait()
            it.server.drain()
            assert it.left
            assert b"connection: close" in await idle.ask()
            assert await idle.is_closed()
            it.answer.set()
            assert b"connection: close" in await asked
            for _ in range(8):
                new = await it.connect()
                assert b"connection: close" in await new.ask()
                assert await new.is_closed()
            assert not it.task.done()
            it.server.stop()
            assert await unused.is_closed()

    asyncio.run(scenario())


def test_draining_ends_in_time() -> None:
    async def scenario() -> None:
        async with running(0.5) as it:
            began = time.monotonic()
            it.server.drain()
            await asyncio.wait_for(it.task, SOON_S)
            assert time.monotonic() - began >= 0.49  # the loop rounds

    asyncio.run(scenario())


def test_draining_ends_when_told_twice() -> None:
    async def scenario() -> None:
        async with running(PATIENCE_S) as it:
            it.server.drain()
            await asyncio.sleep(0.2)
            assert not it.task.done()
            it.server.drain()
            assert await asyncio.wait_for(it.task, SOON_S) == 0

    asyncio.run(scenario())


def test_slow_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.5)
    monkeypatch.setattr(server, "SWEEP_S", 0.1)
    starts = (
        b"",
        GET[:20],
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    )

    async def scenario() -> None:
        async with running() as it:
            clients = [await it.connect() for _ in range(effort(100, 1000))]
            for number, client in enumerate(clients):
                client.writer.write(starts[number % len(starts)])
            assert (await (await it.connect()).ask()).startswith(b"HTTP/1.1 204")
            assert all([await client.is_closed() for client in clients])

    asyncio.run(scenario())


def test_unfinished_handshakes_are_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.5)
    certificate, key = make(tmp_path)
    settings = load(None, {}, {"server.tls_cert": str(certificate), "server.tls_key": str(key)})

    async def no_app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def scenario() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        serving = Server(no_app, settings)
        task = asyncio.create_task(serving.run(listener))
        silent = Client(*await asyncio.open_connection(*listener.getsockname()))
        assert await silent.is_closed()
        serving.stop()
        assert await asyncio.wait_for(task, SOON_S) == 0

    asyncio.run(scenario())
