"""How an agent delivers to servers, proxies, disks and clocks that are not well."""

import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import httpx
import msgspec
import pytest

from heliometer.cli.access import Access
from heliometer.cli.client import Client
from heliometer.cli.report_sender import Sender
from heliometer.collectors import Measurement
from heliometer.collectors.spool import Spool

DAY = 86_400.0
NOW = 1_790_000_000.0
GOOD = msgspec.json.encode({"intervals": {"": 60}, "refused": []})
Answer = Callable[[httpx.Request], httpx.Response]


def good(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=GOOD)


class World:
    """An agent's sender, with a server and clocks that the test rules."""

    def __init__(self, folder: Path) -> None:
        self.here = NOW
        self.there = NOW
        self.answer: Answer = good
        self.taken: list[str] = []
        self.spool = Spool(folder / "spool", 1 << 20)
        self.spool.open()
        self.restart()

    def restart(self) -> None:
        access = Access(url="http://server", auth_url="http://server/identity/v3", token="t")
        client = Client(access, httpx.MockTransport(self.serve), attempts=1)
        self.sender = Sender(client, self.spool, lambda: self.here)

    def serve(self, request: httpx.Request) -> httpx.Response:
        reply = self.answer(request)
        if request.method == "POST" and reply.status_code == 200 and reply.content == GOOD:
            self.taken.append(request.headers["Idempotency-Key"])
        reply.headers.setdefault("Date", formatdate(self.there, usegmt=True))
        return reply

    def round(self, seconds: float = 60.0) -> int:
        """A round, by this machine's clock; how many reports were taken."""
        self.here += seconds
        self.there += seconds
        before = len(self.taken)
        self.sender.deliver_now([Measurement("n", {}, int(self.here) * 1000, 1.0)])
        assert len(set(self.taken)) == len(self.taken), "a report was stored twice"
        return len(self.taken) - before


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_clock_that_was_behind_and_is_right_again_drops_nothing(world: World) -> None:
    world.here -= 21 * DAY
    world.round()  # too old for the server: dropped, by the server's own time
    world.here += 21 * DAY
    assert [world.round() for _ in range(3)] == [1, 1, 1]


def test_a_clock_that_is_ahead_keeps_reports_until_their_time_comes(world: World) -> None:
    world.here += 600
    assert world.round() == 0, "not even the first one is sent to be refused"
    assert world.spool.size()[0] == 1
    world.here -= 600  # corrected
    assert world.round() == 1
    assert world.round(700) == 2, "its time has come"
    assert world.sender.counts["reports_dropped"] == 0


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(200, text="<html>Please sign in to the hotel's network</html>"),
        lambda _: httpx.Response(204),
        lambda _: httpx.Response(200, text="[]"),
        lambda _: httpx.Response(200, json={"intervals": {}, "refused": 7}),
        lambda _: httpx.Response(302, headers={"Location": "http://elsewhere/"}),
        lambda _: httpx.Response(400, text="Bad Request"),
        lambda _: httpx.Response(413, text="<html>too large</html>"),
        lambda _: httpx.Response(500, text="oops"),
        lambda _: httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=_broken()),
    ],
)
def test_only_a_heliometer_takes_reports_or_refuses_them(world: World, answer: Answer) -> None:
    world.answer = answer
    assert [world.round() for _ in range(3)] == [0, 0, 0]
    assert world.spool.size()[0] == 3
    world.answer = good
    assert world.round() == 4


class _broken(httpx.SyncByteStream):  # noqa: N801
    """A body that is not what its headers say."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield b"no gzip"


def test_what_the_server_refuses_for_good_is_dropped(world: World) -> None:
    fault = {"unprocessable_entity": {"code": 422, "message": "reports: wrong."}}
    world.answer = lambda r: httpx.Response(422, json=fault) if r.method == "POST" else good(r)
    world.round()
    assert world.spool.size()[0] == 0
    assert world.sender.counts["reports_dropped"] == 1


def test_a_full_disk_does_not_stop_what_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.answer = lambda _: httpx.Response(503)
    world.round()
    world.round()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(world.spool, "add", full)
        world.round()
        world.answer = good
        assert world.round() == 4, "those on the disk and those in memory"
    assert world.spool.size()[0] == 0
    assert world.round() == 1


def test_trouble_is_said_once_and_again_after_it_was_over(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def messages() -> list[str]:
        ours = [r for r in caplog.records if r.name.startswith("heliometer")]
        found = [record.getMessage() for record in ours]
        caplog.clear()
        return found

    caplog.set_level(logging.INFO)
    for _ in range(2):
        world.answer = lambda _: httpx.Response(503, text="busy")
        for _ in range(3):
            world.round()
        [told] = messages()
        assert "reports wait" in told
        world.answer = good
        world.round()
        assert messages() == ["reports are delivered again"]
    world.answer = lambda _: httpx.Response(503)
    world.round()
    world.answer = lambda _: httpx.Response(401)
    world.round()
    assert len(messages()) == 2, "another trouble is news"


def test_replaying_stops_for_the_next_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.answer = lambda _: httpx.Response(503)
    for _ in range(5):
        world.round()
    world.answer = good
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr("heliometer.cli.report_sender.time.monotonic", lambda: next(clock))
    assert 1 <= world.round() < 5
    assert time.monotonic is not None
