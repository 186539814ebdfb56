"""When minutes are evaluated: on time, late, after a restart, and when the clock is set."""

import asyncio

import pytest

from alarms.evaluator_world import ALARM, OK, World
from heliometer.core.errors import HeliometerError


async def test_an_average_waits_for_its_minute_and_the_grace(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    await world.measure(10)
    assert await world.changes(alarm) == []
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False)]
    await world.measure(1)
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False), (125, OK, False)]


async def test_what_cannot_be_undone_goes_off_with_the_measurement(world: World) -> None:
    await world.start()
    alarm = await world.alarm("max(ns) > 5")
    await world.measure(10)
    assert await world.changes(alarm) == [(10, ALARM, True)]
    await world.wait(60)
    assert len(await world.changes(alarm)) == 1


async def test_a_restart_goes_on_with_the_windows(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5 times 3")
    for _ in range(3):
        await world.measure(10)
        await world.stop()
        await world.start()
        await world.wait(60)
        await world.stop()
        await world.start()
    assert await world.changes(alarm) == [(185, ALARM, False)]


async def test_owners_that_end_before_their_first_evaluation_cost_no_minute(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    for value in (1, 10, 1):
        await world.measure(value)
        await world.stop()
        world.now_s += 60
        await world.start()
        world.alarms.away = True  # nothing of what this owner decides is committed
        await world.settled()
        await world.stop()
        world.alarms.away = False
    await world.start()
    assert [state for _, state, _ in await world.changes(alarm)] == [OK, ALARM, OK]


async def test_being_away_proves_nothing_but_what_was_stored_counts(world: World) -> None:
    await world.start()
    quiet = await world.alarm("count(ns) < 1")
    loud = await world.alarm("avg(ns) > 5")
    gone = await world.alarm("avg(ns{host=b}) > 5")
    await world.measure(1, host="b")
    await world.measure(1)
    await world.wait(60)
    assert await world.changes(quiet) == [(65, OK, False)]
    assert await world.changes(gone) == [(65, OK, False)]
    await world.measure(10)
    await world.stop()
    world.now_s += 600
    await world.start()
    assert [s for _, s, _ in await world.changes(loud)] == [OK, ALARM]
    assert len(await world.changes(quiet)) == 1
    assert len(await world.changes(gone)) == 1
    assert world.evaluator is not None
    assert world.evaluator.missed == 9
    await world.wait(120)
    assert [s for _, s, _ in await world.changes(quiet)] == [OK, ALARM], "now it is quiet for sure"


async def test_when_the_clock_is_set_nothing_changes_by_itself(world: World) -> None:
    await world.start()
    alarm = await world.alarm("count(ns) < 1")
    await world.measure(1)
    await world.wait(60)
    before = await world.changes(alarm)
    for step in (3600, -7200):
        world.now_s += step
        world.clock_set_by_s += step
        await world.wait(10)
        assert await world.changes(alarm) == before


async def test_health_notices_when_evaluation_stands_still(world: World) -> None:
    await world.start()
    assert world.evaluator is not None
    await world.evaluator.ping()
    await world.stop()
    world.now_s += 300
    with pytest.raises(HeliometerError):
        await world.evaluator.ping()


async def test_a_clock_that_is_set_while_nothing_can_be_read_stops_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    world.store.away = True
    await world.measure(10)
    world.now_s += 3600
    world.clock_set_by_s += 3600
    assert world.running is not None
    while "windows cannot be read" not in caplog.text and not world.running.done():
        await asyncio.sleep(0.001)
    world.store.away = False
    await world.wait(10)
    await world.measure(10)
    await world.wait(60)
    assert [s for _, s, _ in await world.changes(alarm)] == [ALARM]
