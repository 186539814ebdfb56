"""StatsD: what is gathered in an interval, and what is stored of it."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.config import StatsdSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.series_index import Name
from heliometer.statsd.listener import Statsd, parse, series_of


class Shelf:
    """Stands for the use cases of metrics: keeps what it is given, or refuses."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, float]] = []
        self.refusal: HeliometerError | None = None
        self.room = 1000

    async def post_collected(self, project_id: str, measured: list) -> None:  # type: ignore[type-arg]
        assert project_id == "p"
        if self.refusal:
            raise self.refusal
        if len({m.dimensions["metric_name"] for m in measured}) > self.room:
            raise HeliometerError(Code.RATE_LIMITED, "The project has all its series.")
        self.stored += [(m.dimensions["metric_name"], m.value) for m in measured]

    def known(self, _: str, names: list[Name]) -> set[Name]:
        return {name for name in names if ("metric_name", "old") in name.dimensions}


def listener(shelf: Shelf) -> Statsd:
    return Statsd(StatsdSettings(), shelf, "p", lambda: 1000.5)  # type: ignore[arg-type]


async def stored(*datagrams: str) -> list[tuple[str, float]]:
    shelf = Shelf()
    statsd = listener(shelf)
    for datagram in datagrams:
        statsd.datagram_received(datagram.encode(), ("192.0.2.1", 1))
    await statsd.flush()
    return shelf.stored


async def test_counters_are_summed_and_scaled() -> None:
    assert await stored("hits:1|c\nhits:2|c", "hits:3|c|@0.5") == [("hits", 9.0)]


async def test_the_last_value_of_a_gauge_counts_and_differences_change_it() -> None:
    assert await stored("load:5|g\nload:7|g\nload:-2|g\nload:+1|g") == [("load", 6.0)]


async def test_each_timing_is_a_measurement() -> None:
    assert await stored("t:5|ms\nt:7:9|ms\nt:1|h\nt:2|d") == [("t", v) for v in (5, 7, 9, 1, 2)]


async def test_a_set_counts_different_members() -> None:
    assert await stored("users:ann|s\nusers:bob|s\nusers:ann|s") == [("users", 2.0)]


def test_tags_are_dimensions() -> None:
    for line in ("a:1|c|#host:b,ok", "a,host=b,ok=true:1|c", "a:1|c|@0.5|#ok,host:b|c:id|T16"):
        assert dict(series_of("statsd", parse(line)).dimensions) == {
            "metric_name": "a",
            "host": "b",
            "ok": "true",
        }


@pytest.mark.parametrize(
    "line", ["", "a", "a:1", "a|c", ":1|c", "a:x|c", "a:1|q", "a:1|c|@0", "a:1|c|@2", "a:nan|g",
             "a:inf|c", "a:|c", "a:1|c|@x"],
)  # fmt: skip
def test_what_is_no_sample(line: str) -> None:
    with pytest.raises(ValueError):
        parse(line)


async def test_a_bad_line_is_counted_said_once_and_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shelf = Shelf()
    statsd = listener(shelf)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            statsd.datagram_received(b"nonsense\nhits:1|c\n\xff\xfe:1|c", ("192.0.2.1", 1))
    await statsd.flush()
    assert statsd.counts["statsd_malformed"] == 3
    assert shelf.stored == [("hits", 3.0), ("\ufffd\ufffd", 3.0)]
    assert len(caplog.records) == 1
    assert "192.0.2.1" in caplog.text


async def test_what_cannot_be_stored_now_waits() -> None:
    shelf = Shelf()
    shelf.refusal = HeliometerError(Code.UNAVAILABLE, "The disk is full.")
    statsd = listener(shelf)
    statsd.datagram_received(b"hits:1|c", ("192.0.2.1", 1))
    await statsd.flush()
    statsd.datagram_received(b"hits:2|c", ("192.0.2.1", 1))
    shelf.refusal = None
    await statsd.flush()
    assert shelf.stored == [("hits", 1.0), ("hits", 2.0)]


async def test_beyond_the_limit_of_series_those_that_are_there_go_on() -> None:
    shelf = Shelf()
    shelf.room = 1
    statsd = listener(shelf)
    statsd.datagram_received(b"old:1|c\nnew:1|c", ("192.0.2.1", 1))
    await statsd.flush()
    assert shelf.stored == [("old", 1.0)]
    assert statsd.counts["statsd_dropped"] == 1


@given(st.binary(max_size=200))
def test_whatever_comes_is_taken_or_counted(data: bytes) -> None:
    listener(Shelf()).datagram_received(data, ("192.0.2.1", 1))
