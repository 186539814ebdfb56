"""The engine and the database stay of one mind about every alarm."""

import asyncio

import pytest

from alarms.evaluator_world import ALARM, OK, PROJECT, U, World
from heliometer.alarms.model import AlarmFilter, Outcome, State, Transition
from heliometer.core.errors import HeliometerError
from heliometer.storage.sql.alarms import SqlAlarmStore


async def test_a_new_alarm_sees_what_is_stored(world: World) -> None:
    await world.start()
    await world.measure(10, age_s=5)
    alarm = await world.alarm("avg(ns, 120) > 5")
    await world.wait(55)
    assert await world.changes(alarm) == [(65, ALARM, False)]


async def test_an_alarm_that_is_forgotten_changes_no_more(world: World) -> None:
    await world.start()
    alarm = await world.alarm("max(ns) > 5")
    assert world.evaluator is not None
    await world.evaluator.forget(alarm.project_id, [alarm.id])
    await world.measure(10)
    await world.wait(60)
    assert await world.changes(alarm) == []
    assert len(world.evaluator) == 0


async def test_a_state_that_the_store_knows_better_is_taken_from_it(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    # Somebody else decided: what the engine holds does not apply any more.
    now = int(world.now_s * 1000)
    other = Transition(alarm.id, now, now, U, ALARM, False, ())
    assert await SqlAlarmStore.commit(world.alarms, Outcome([other])) == []
    await world.measure(10)
    await world.wait(60)
    await world.measure(1)
    await world.wait(60)
    assert [s for _, s, _ in await world.changes(alarm)] == [ALARM, OK]
    assert world.evaluator is not None
    await world.evaluator.ping()


async def test_an_alarm_that_was_read_before_a_commit_is_looked_at_again(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    await world.measure(10)
    await world.wait(60)
    assert world.evaluator is not None
    await world.evaluator.watch(alarm)  # as it was before it changed
    await world.settled()
    await world.measure(1)
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False), (125, OK, False)]


async def test_a_state_that_cannot_be_read_is_taken_when_it_can(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Due whenever the world turns its clock, so that nothing waits for a retry of 30 s.
    monkeypatch.setattr("heliometer.alarms.reconciler.LAST_RETRY_S", 5.0)
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    now = int(world.now_s * 1000)
    await world.settled()
    other = Transition(alarm.id, now, now, U, OK, False, ())
    assert await SqlAlarmStore.commit(world.alarms, Outcome([other])) == []
    world.alarms.unreadable = True
    await world.measure(10)
    await world.wait(60)
    world.alarms.unreadable = False
    await world.wait(5)
    await world.measure(10)
    await world.wait(55)
    assert [s for _, s, _ in await world.changes(alarm)] == [OK, ALARM]


async def test_doubts_that_cannot_be_settled_hold_up_no_commit(world: World) -> None:
    await world.start()
    doubtful, other = [await world.alarm(f"avg(ns) > {i}") for i in (5, 6)]
    world.alarms.unreadable = True
    assert world.evaluator is not None
    await world.evaluator.watch(doubtful)
    for value in (10, 1):
        await world.measure(value)
        await world.wait(60)
    for alarm in (doubtful, other):
        assert await world.changes(alarm) == [(65, ALARM, False), (125, OK, False)]


async def test_a_commit_while_an_alarm_is_looked_at_is_seen(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    await world.settled()
    assert world.evaluator is not None
    world.alarms.telling.clear()
    await world.evaluator.watch(alarm)
    await world.measure(10)
    await world.wait(60)
    world.alarms.telling.set()
    await world.settled()
    await world.measure(1)
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False), (125, OK, False)]


async def test_an_alarm_that_is_forgotten_while_it_is_looked_at_stays_so(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    await world.settled()
    assert world.evaluator is not None
    world.alarms.telling.clear()
    await world.evaluator.watch(alarm)
    await world.settled()
    await world.evaluator.forget(PROJECT, [alarm.id])
    world.alarms.telling.set()
    await world.settled()
    assert len(world.evaluator) == 0


async def test_an_edit_that_leaves_the_metrics_alone_reads_nothing(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    await world.measure(10)
    world.store.away = True
    await world.edit(alarm, name="another")
    await world.edit(alarm, expression="avg(ns) > 6 times 1")
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False)]


async def test_an_edit_does_not_bring_back_the_minute_before_an_alarm_went_off(
    world: World,
) -> None:
    await world.start()
    alarm = await world.alarm("max(ns) > 5")
    await world.measure(1)
    await world.wait(50)
    await world.measure(10)  # the minute that is over now is evaluated after the grace
    await world.edit(alarm, name="another")
    await world.wait(70)
    assert await world.changes(alarm) == [(60, ALARM, True)]


@pytest.mark.parametrize("edited", [False, True])
async def test_an_edit_does_not_begin_anew_to_wait_for_data(world: World, edited: bool) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns, 120) > 5")
    await world.measure(1)
    await world.wait(240)
    if edited:
        await world.edit(alarm, name="another")
    await world.wait(120)
    assert await world.changes(alarm) == [(65, OK, False), (365, U, False)]


@pytest.mark.parametrize("expression", ["max(ns) > 5", "max(ns) > 6"])
async def test_an_edit_does_not_hide_that_an_alarm_flaps(world: World, expression: str) -> None:
    await world.start(flapping_changes=2)
    alarm = await world.alarm("max(ns) > 5")
    await world.measure(10)
    await world.wait(60)
    await world.measure(1)
    await world.wait(60)
    await world.edit(alarm, expression=expression)
    await world.measure(10)
    states = [state for _, state, _ in await world.changes(alarm)]
    assert states == [ALARM, OK, State.FLAPPING]


async def test_an_edited_alarm_is_not_judged_before_its_history_is_read(world: World) -> None:
    await world.start()
    alarm = await world.alarm("sum(ns, 300) > 4")
    for _ in range(5):
        await world.measure(1)
    await world.wait(60)
    world.store.away = True
    with pytest.raises(HeliometerError):
        await world.edit(alarm, expression="sum(ns{host=a}, 300) > 8")
    for _ in range(2):
        await world.measure(1)
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False)], "2 are not all that there are"
    world.store.away = False
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False), (185, OK, False)], "there are 7"


async def test_all_alarms_that_come_together_are_watched_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()
    assert world.evaluator is not None
    watch = world.evaluator.watch
    monkeypatch.setattr(world.evaluator, "watch", lambda _: asyncio.sleep(0))
    alarms = [await world.alarm(f"avg(ns) > {i}") for i in range(3)]
    await world.measure(10)
    world.store.away = True
    answers = await asyncio.gather(*map(watch, alarms), return_exceptions=True)
    assert any(isinstance(answer, HeliometerError) for answer in answers)
    await world.settled()
    assert len(world.evaluator) == 0
    world.store.away = False
    await world.wait(60)
    assert [await world.changes(alarm) for alarm in alarms] == 3 * [[(65, ALARM, False)]]


async def test_an_alarm_that_another_takes_along_and_cannot_watch_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.start()
    assert world.evaluator is not None
    await world.measure(10)
    alarms = [await world.alarm(e) for e in ("avg(ns) > 5", "avg(ns, 120) > 5", "avg(ns, 180) > 5")]
    await world.evaluator.forget(PROJECT, [alarm.id for alarm in alarms])
    in_doubt, taking_along, reading = alarms
    world.store.away = True
    with pytest.raises(HeliometerError):
        await world.evaluator.watch(in_doubt)
    while "is not watched as it is stored" not in caplog.text:
        await asyncio.sleep(0.001)
    world.store.answering.clear()
    tasks = []
    for alarm in (reading, taking_along):
        tasks.append(asyncio.create_task(world.evaluator.watch(alarm)))
        await asyncio.sleep(0.02)
    world.now_s += 6  # the one in doubt is looked at, and waits behind the other two
    while in_doubt.id not in world.evaluator.waiting:
        await asyncio.sleep(0.001)
    world.store.answering.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    world.store.away = False
    await world.wait(60)
    assert len(world.evaluator) == 3


async def test_who_gives_up_waiting_leaves_no_empty_windows(world: World) -> None:
    await world.start()
    assert world.evaluator is not None
    await world.measure(10)
    world.alarms.unreadable = True
    world.store.answering.clear()
    making = asyncio.create_task(world.alarm("sum(ns) > 25"))
    while len(world.evaluator) == 0:
        await asyncio.sleep(0.001)
    making.cancel()
    await asyncio.wait({making})
    world.store.answering.set()
    await world.measure(10)
    world.alarms.unreadable = False
    await world.wait(60)
    (alarm,) = await world.alarms.find(PROJECT, AlarmFilter(), None, 10)
    assert await world.changes(alarm) == [(65, OK, False)], "10 and 10 are 20"
