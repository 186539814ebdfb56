"""When the collector's loop runs, and how it outlives failures."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from heliometer.collectors import Due, Measurement
from heliometer.collectors.loop import run
from heliometer.collectors.schedule import Schedule
from heliometer.core.errors import Code, HeliometerError


class Ended(BaseException):
    """Ends the endless loop under test, as a cancellation would."""


class World:
    """A collector, a store and a clock that only moves when the loop sleeps."""

    def __init__(self, start: float = 1_000_000.0, end: float = 1_002_000.0) -> None:
        self.now = start
        self.end = end
        self.seconds = 300
        self.taken: list[float] = []
        self.delivered: list[list[Measurement]] = []
        self.counts: Counter[str] = Counter()
        self.on_collect: Callable[[], None] = lambda: None
        self.on_deliver: Callable[[], None] = lambda: None
        self.on_interval: Callable[[], None] = lambda: None
        self.on_sleep: Callable[[], None] = lambda: None

    def collect(self, timestamp_ms: int, due: Due) -> list[Measurement]:
        if not due(""):
            return []
        self.taken.append(timestamp_ms / 1000)
        self.on_collect()
        return [Measurement("hpcs.compute", {"metric_name": "m"}, timestamp_ms, 1.0)]

    async def deliver(self, measurements: list[Measurement]) -> None:
        self.on_deliver()
        self.delivered.append(measurements)

    async def intervals(self) -> dict[str, int]:
        self.on_interval()
        return {"": self.seconds}

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        await asyncio.sleep(0)
        self.now += seconds
        self.on_sleep()
        if self.now >= self.end:
            raise Ended

    async def run(self) -> None:
        with pytest.raises(Ended):
            schedule = Schedule(self.intervals)
            await run(self, self.deliver, schedule, lambda: self.now, self.sleep, self.counts)


async def test_at_once_then_soon_then_at_multiples_of_the_interval() -> None:
    world = World()
    await world.run()
    first = [1_000_000, 1_000_010, 1_000_200, 1_000_500]
    assert world.taken == [*first, 1_000_800, 1_001_100, 1_001_400, 1_001_700]
    assert world.counts == {"rounds": 8, "measurements": 8}


async def test_rounds_are_some_seconds_apart() -> None:
    world = World(start=1_000_189.8, end=1_000_900)
    await world.run()
    assert world.taken == [1_000_189, 1_000_199, 1_000_500, 1_000_800]


async def test_a_new_level_takes_effect_while_waiting() -> None:
    world = World(end=1_000_440)

    def upgrade() -> None:
        world.seconds = 60 if world.now >= 1_000_211 else 300

    world.on_sleep = upgrade
    await world.run()
    assert world.taken == [1_000_000, 1_000_010, 1_000_200, 1_000_260, 1_000_320, 1_000_380]


async def test_a_nap_that_ends_early_does_not_make_a_round_early() -> None:
    world = World(end=1_000_600)

    naps = 0

    def early() -> None:
        nonlocal naps
        naps += 1
        world.now -= 0.001 if naps % 3 else 0

    world.on_sleep = early
    await world.run()
    assert world.taken[2] >= 1_000_200
    assert world.taken[3] >= 1_000_500


async def test_a_clock_that_is_set_back_an_hour_does_not_stop_collecting() -> None:
    world = World(end=1_000_500)
    stepped = False

    def step() -> None:
        nonlocal stepped
        if not stepped and world.now > 1_000_100:
            stepped = True
            world.now -= 3600

    world.on_sleep = step
    await world.run()
    after = [t for t in world.taken if t < 1_000_000]
    assert [t % 300 for t in after[:3]] == [0, 0, 0]
    assert after[0] - (1_000_100 - 3600) < 330


async def test_failures_are_counted_said_once_and_outlived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()

    def broken() -> None:
        raise OSError("no /proc")

    world.on_collect = broken
    await world.run()
    assert len(world.taken) == 8
    assert world.delivered == []
    assert world.counts["errors"] == 8
    assert len(caplog.records) == 1
    assert "no /proc" in caplog.text


async def test_rounds_wait_for_the_store_to_come_back() -> None:
    world = World()

    def down() -> None:
        if world.now < 1_001_000:
            raise HeliometerError(Code.UNAVAILABLE, "The disk is full.")

    world.on_deliver = down
    await world.run()
    assert [d[0].timestamp_ms / 1000 for d in world.delivered] == world.taken
    assert world.counts["errors"] == 5


async def test_a_round_whose_outcome_is_unknown_is_not_delivered_twice() -> None:
    world = World()
    failures = iter([TimeoutError()])

    def unknown() -> None:
        for error in failures:
            raise error

    world.on_deliver = unknown
    await world.run()
    assert [d[0].timestamp_ms / 1000 for d in world.delivered] == world.taken[1:]
    assert world.counts["dropped"] == 1


async def test_the_oldest_rounds_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliometer.collectors.loop.KEPT", 2)
    world = World()

    def down() -> None:
        if world.now < 1_001_300:
            raise HeliometerError(Code.UNAVAILABLE, "The disk is full.")

    world.on_deliver = down
    await world.run()
    assert [d[0].timestamp_ms / 1000 for d in world.delivered] == world.taken[-4:]
    assert world.counts["dropped"] == 4


async def test_an_unreadable_level_keeps_the_last_known_interval() -> None:
    world = World(end=1_000_500)
    world.seconds = 60

    def unreadable() -> None:
        if world.now > 1_000_100:
            raise HeliometerError(Code.UNAVAILABLE, "The database is locked.")

    world.on_interval = unreadable
    await world.run()
    assert world.taken[2:6] == [1_000_020, 1_000_080, 1_000_140, 1_000_200]
