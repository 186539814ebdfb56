"""When minutes are evaluated: on time, late, after a restart, and when the clock is set."""

import asyncio

import pytest

from alarms.evaluator_world import ALARM, OK, World
from heliometer.alarms.model import Alarm, State
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


PACE_S = 15
STEADY = {
    "count(ns) < 1": OK,
    "count(ns) < 1 times 3": OK,
    "count(ns, 120) < 3": OK,
    "count(ns) > 1": ALARM,
    "count(ns) > 5": OK,
    "sum(ns) < 20": OK,
    "sum(ns) > 20": ALARM,
    "sum(ns) > 50": OK,
    "avg(ns) > 5 times 3": ALARM,
    "avg(ns) < 5": OK,
    "ns > 20": OK,
}
"""Alarms, and their states as long as a measurement of 10 comes every ``PACE_S``."""


async def steady(world: World, seconds: int, age_s: int = 0) -> None:
    """Time goes by with a measurement now and then; what comes from the future is refused."""
    for _ in range(seconds // PACE_S):
        world.now_s += PACE_S
        if age_s >= -120:
            await world.measure(10, age_s=age_s)
        else:
            await world.settled()


async def steady_alarms(world: World) -> list[Alarm]:
    await world.start(at_once=False)
    for age_s in range(240, 0, -PACE_S):
        await world.measure(10, age_s=age_s)
    alarms = [await world.alarm(expression) for expression in STEADY]
    await steady(world, 60)
    for alarm in alarms:
        (change,) = await world.changes(alarm)
        assert change[1] is STEADY[alarm.expression], alarm.expression
    return alarms


async def changed(world: World, alarms: list[Alarm]) -> list[tuple[str, State]]:
    return [(a.expression, s) for a in alarms for _, s, _ in (await world.changes(a))[1:]]


@pytest.mark.parametrize(
    ("step", "clients_are_set"),
    [(45, True), (3597, True), (3597, False), (-45, True), (-3597, True), (-86_400, False)],
)
@pytest.mark.reliability(6)
async def test_no_alarm_changes_when_the_clock_is_set(
    world: World, step: int, clients_are_set: bool
) -> None:
    alarms = await steady_alarms(world)
    world.now_s += step
    world.clock_set_by_s += step
    age_s = 0 if clients_are_set else step
    await steady(world, 60, age_s)
    if step == -3597:
        await world.stop()  # who reads the windows finds the measurements of both times
        await world.start(at_once=False)
    await steady(world, 120, age_s)
    assert await changed(world, alarms) == []


@pytest.mark.reliability(6)
async def test_no_alarm_changes_when_the_clock_is_set_back_while_the_service_is_down(
    world: World,
) -> None:
    alarms = await steady_alarms(world)
    await world.stop()
    world.now_s -= 1800
    await world.start(at_once=False)
    await steady(world, 180)
    assert await changed(world, alarms) == []


async def test_who_is_not_heard_of_after_the_clock_was_set_is_silent_in_the_end(
    world: World,
) -> None:
    await world.start()
    alarm = await world.alarm("count(ns) < 1")
    await steady(world, 120)
    world.now_s += 120
    world.clock_set_by_s += 120
    await world.wait(60)
    assert [s for _, s, _ in await world.changes(alarm)] == [OK]
    await world.wait(180)
    assert [s for _, s, _ in await world.changes(alarm)] == [OK, ALARM]


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
