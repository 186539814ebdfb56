"""What is decided reaches the database in order, once, whatever happens on the way."""

import pytest

from alarms.evaluator_world import ALARM, OK, PROJECT, FailingStore, World
from heliometer.alarms.model import Outcome
from heliometer.metrics.series_index import Name
from heliometer.projects.model import ProjectShard


async def test_decisions_wait_for_the_store_in_order(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    world.alarms.away = True
    await world.measure(10)
    await world.wait(60)
    await world.measure(1)
    await world.wait(60)
    assert await world.changes(alarm) == []
    assert world.evaluator is not None
    assert world.evaluator.uncommitted > 0
    world.alarms.away = False
    await world.wait(10)
    assert await world.changes(alarm) == [(65, ALARM, False), (125, OK, False)]


@pytest.mark.parametrize("slow", ["commit", "causes"])
async def test_what_was_decided_survives_a_hand_over_in_order(world: World, slow: str) -> None:
    await world.start(at_once=False)
    alarm = await world.alarm("max(ns) > 5")
    await world.measure(10)
    await world.measure(10, host="b")
    stands_still = world.alarms.answering if slow == "commit" else world.store.answering
    stands_still.clear()
    await world.wait(60)
    await world.measure(1)
    await world.wait(60)
    assert world.evaluator is not None
    assert world.evaluator.uncommitted == 2
    await world.hand_over()
    assert await world.changes(alarm) == [(65, ALARM, False), (125, OK, False)]
    assert world.evaluator.uncommitted == 0


async def test_a_hand_over_commits_nothing_after_what_it_cannot_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    world.alarms.away = True
    await world.measure(10)
    await world.wait(60)
    await world.measure(1)
    await world.wait(60)
    first = True

    async def commit(outcome: Outcome, shard: ProjectShard, fencing_token: int | None) -> list[str]:
        nonlocal first
        world.alarms.away, first = first, False
        return await FailingStore.commit(world.alarms, outcome, shard, fencing_token)

    monkeypatch.setattr(world.alarms, "commit", commit)
    await world.hand_over()
    assert [s for _, s, _ in await world.changes(alarm)] == [ALARM, OK], "evaluated again"


async def test_a_commit_whose_answer_is_lost_is_one(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    world.alarms.loses_answer = True
    await world.measure(10)
    await world.wait(60)
    await world.measure(1)
    await world.wait(60)
    assert await world.changes(alarm) == [(65, ALARM, False)]
    world.alarms.away = False
    await world.wait(5)
    await world.measure(10)
    await world.wait(55)
    assert await world.changes(alarm) == [
        (65, ALARM, False),
        (125, OK, False),
        (185, ALARM, False),
    ]


async def test_an_alarm_can_be_edited_while_its_transition_waits(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    world.alarms.away = True
    await world.measure(10)
    await world.wait(60)
    await world.edit(alarm, expression="avg(ns) > 6")
    world.alarms.away = False
    await world.wait(10)
    await world.measure(1)
    await world.wait(50)
    assert await world.changes(alarm) == [(65, ALARM, False), (125, OK, False)]


async def test_causes_are_of_the_expression_that_was_judged(world: World) -> None:
    await world.start()
    alarm = await world.alarm("avg(ns) > 5")
    world.series_index.intern(PROJECT, [Name("other", (("host", "z"),))])
    world.alarms.away = True
    for value in (10, 1):
        await world.measure(value)
        await world.wait(60)
    await world.edit(alarm, expression="avg(other) > 5")
    world.alarms.away = False
    await world.wait(5)
    newest, first = await world.alarms.history(PROJECT, alarm.id, None, 10)
    assert [s.dimensions for s in first.transition.findings[0].series] == [{"host": "a"}]
    assert newest.transition.findings[0].series == ()
