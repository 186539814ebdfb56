"""Long answers: made and written in pieces, within a budget, for clients that read them."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from unittest.mock import Mock

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from eventually import WITHIN_S, eventually_async
from heliometer.core.errors import HeliometerError
from heliometer.core.instruments import Instruments
from heliometer.http import server
from heliometer.http.answers import PIECE_BYTES, AnswerBudget, Pieces, json_list
from heliometer.http.app import HttpApp, HttpOptions
from heliometer.http.limits import RateLimit
from heliometer.http.operation import STATUS, Call, Dialect, Operation
from heliometer.http.proxies import TrustedProxies
from heliometer.http.server import Server

ROW = "x" * 1000
LONG = 20_000
"""Rows of about 20 MiB, which no pair of sockets buffers."""


@pytest.mark.parametrize("number", [0, 1, 50, 3000])
def test_a_list_is_the_same_in_one_piece_or_many(number: int) -> None:
    rows = [{"n": n, "text": ROW} for n in range(number)]
    answer = json_list(rows, lambda row: row, 0, "application/json", (b'{"rows":[', b"]}"))
    is_long = number * len(ROW) > 2 * PIECE_BYTES
    assert isinstance(answer, Pieces) == is_long
    body = b"".join(answer.pieces) if isinstance(answer, Pieces) else bytes(answer.body)
    assert json.loads(body) == {"rows": rows}


def test_rows_are_made_only_when_it_is_their_turn() -> None:
    made: list[int] = []

    def render(number: int) -> str:
        made.append(number)
        return ROW

    answer = json_list(range(LONG), render, 0, "application/json")
    assert isinstance(answer, Pieces)
    assert len(made) < 4 * PIECE_BYTES // len(ROW)
    for _ in range(3):
        next(answer.pieces)
    assert len(made) < 6 * PIECE_BYTES // len(ROW)


def test_a_budget_is_shared_by_projects_and_by_all() -> None:
    budget = AnswerBudget(total_bytes=1_000_000, project_bytes=500_000)
    answers = [Response(b"x" * size) for size in (400_000, 200_000)]
    assert budget.reserve("a", answers[0]) == 400_000
    with pytest.raises(HeliometerError) as of_project:
        budget.reserve("a", answers[1])
    assert budget.reserve("b", answers[0]) == 400_000
    assert budget.held_bytes == 800_000
    with pytest.raises(HeliometerError) as of_all:
        budget.reserve("c", answers[0])
    assert of_project.value.retry_after
    assert of_all.value.retry_after
    assert budget.reserve("a", Response(b"short")) == 0
    budget.give_back("a", 400_000)
    assert budget.reserve("a", answers[1]) == 200_000


def test_one_answer_larger_than_a_project_s_share_is_possible() -> None:
    budget = AnswerBudget(total_bytes=1_000_000, project_bytes=100_000)
    assert budget.reserve("a", Response(b"x" * 300_000))


async def _rows(_: Call) -> Response:
    return json_list(range(LONG), lambda _: ROW, 1_000_000, "application/json")


def _fault(error: HeliometerError, _: str) -> Response:
    return JSONResponse({"fault": error.message}, STATUS[error.code])


class Service:
    """A server whose ``/rows`` is long, with a budget for one such answer, on a port of its own."""

    def __init__(self) -> None:
        self.budget = AnswerBudget(1_500_000, 1_500_000)
        options = HttpOptions(
            body_bytes=1000,
            bodies_bytes=1000,
            answers=self.budget,
            rate_limit=RateLimit(0, lambda: 0.0),
            proxies=TrustedProxies([]),
        )
        operation = Operation("GET", "/rows", "Rows", "nowhere", _rows)
        dialect = Dialect("root", "Root", "", (operation,), _fault)
        self._server = Server(HttpApp([dialect], Mock(), options, Instruments()), None)
        listener = socket.create_server(("127.0.0.1", 0))
        self._address = listener.getsockname()
        self._task = asyncio.create_task(self._server.run(listener))

    async def stop(self) -> None:
        await self._server.finish(self._task)

    async def asked(
        self, version: str = "1.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which the rows were asked for."""
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(f"GET /rows HTTP/{version}\r\nHost: h\r\n\r\n".encode())
        return reader, writer

    async def asked_but_not_read(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The same, where nothing is read."""
        reader, writer = await self.asked()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await eventually_async(lambda: self.budget.held_bytes)
        return reader, writer

    async def ask(self) -> httpx.Response:
        """Ask for the rows and read them."""
        async with httpx.AsyncClient(timeout=WITHIN_S) as client:
            return await client.get("http://{}:{}/rows".format(*self._address))


def scenario(run: Callable[[Service], Awaitable[None]]) -> None:
    async def play() -> None:
        service = Service()
        try:
            await run(service)
        finally:
            await service.stop()

    asyncio.run(play())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that do not read are cut soon."""
    monkeypatch.setattr(server, "UNREAD_S", 0.3)
    monkeypatch.setattr(server, "SWEEP_S", 0.1)


def test_whoever_reads_gets_it_all_and_holds_nothing_then() -> None:
    async def run(service: Service) -> None:
        reply = await service.ask()
        assert reply.json() == [ROW] * LONG
        assert reply.headers["x-request-id"]
        await eventually_async(lambda: not service.budget.held_bytes)

    scenario(run)


def test_what_is_not_read_counts_and_others_are_asked_to_come_later() -> None:
    async def run(service: Service) -> None:
        _, writer = await service.asked_but_not_read()
        refused = await service.ask()
        assert refused.status_code == 503
        assert "have not read" in refused.json()["fault"]
        assert refused.headers["retry-after"] == "2"
        writer.transport.abort()
        await eventually_async(lambda: not service.budget.held_bytes)
        assert (await service.ask()).status_code == 200

    scenario(run)


@pytest.mark.usefixtures("impatient")
def test_who_does_not_read_is_cut() -> None:
    async def run(service: Service) -> None:
        reader, writer = await service.asked_but_not_read()
        await eventually_async(lambda: not service.budget.held_bytes)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(LONG * len(ROW)), WITHIN_S)

    scenario(run)


def test_http_1_0_gets_a_length_instead_of_chunks() -> None:
    async def run(service: Service) -> None:
        reader, _ = await service.asked("1.0")
        reply = await asyncio.wait_for(reader.read(-1), WITHIN_S)
        head, _, body = reply.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head
        assert b"chunked" not in head
        assert json.loads(body) == [ROW] * LONG

    scenario(run)
