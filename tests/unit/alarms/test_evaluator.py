"""The loop around the engine: what it takes up, catches up on and commits, by a turned clock, over
real stores."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliometer.alarms.clock import Clock
from heliometer.alarms.evaluator import Evaluator
from heliometer.alarms.expression import normal_form, parse
from heliometer.alarms.model import Alarm, AlarmFilter, Outcome, State, Transition
from heliometer.config import AlarmSettings, MetricSettings, ServerSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Project
from heliometer.metrics.model import Batch
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.pipeline.group_commit import GroupCommit
from heliometer.projects.model import ALL_PROJECTS, ProjectShard
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database
from local_pipeline import local_shard

PROJECT = "a" * 32
START_S = 1_795_000_020 // 60 * 60
U, OK, ALARM = State.UNDETERMINED, State.OK, State.ALARM


class FailingStore(SqlAlarmStore):
    """A real store whose database can be away."""

    away = False
    unreadable = False
    loses_answer = False
    """The next commit of a transition succeeds, and nobody is told; then the database is away."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.answering = asyncio.Event()
        self.answering.set()
        self.telling = asyncio.Event()
        """While it is not set, what is read is not told yet."""
        self.telling.set()

    async def commit(
        self, outcome: Outcome, shard: ProjectShard = ALL_PROJECTS, fencing_token: int | None = None
    ) -> list[str]:
        await self.answering.wait()
        if self.away:
            raise HeliometerError(Code.UNAVAILABLE, "The resource database does not answer.")
        left_out = await super().commit(outcome, shard, fencing_token)
        if self.loses_answer and outcome.transitions:
            self.loses_answer, self.away = False, True
            raise HeliometerError(Code.UNAVAILABLE, "The resource database does not answer.")
        return left_out

    async def get(self, project_id: str, alarm_id: str) -> Alarm:
        if self.unreadable:
            raise HeliometerError(Code.UNAVAILABLE, "The resource database does not answer.")
        found = await super().get(project_id, alarm_id)
        await self.telling.wait()
        return found


class FailingMeasurements(DuckDBStore):
    """A real store that can be unable to read, or not answer who reads."""

    away = False
    answering: asyncio.Event

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        await self.answering.wait()
        if self.away:
            raise HeliometerError(Code.UNAVAILABLE, "The measurements cannot be read.")
        return await super().read(series, start_ms, end_ms)


@dataclass
class World:
    """Stores that stay, and an evaluator that comes and goes."""

    store: FailingMeasurements
    series_index: SeriesIndex
    alarms: FailingStore
    now_s: float = START_S + 10
    clock_set_by_s: float = 0.0
    """How far somebody has set the clock since the start; steady time does not see it."""
    writer: GroupCommit[None] = field(init=False)
    """Of the process that the evaluator is in."""
    evaluator: Evaluator | None = None
    running: asyncio.Task[None] | None = None

    async def start(self, **settings: object) -> None:
        shard = local_shard(self.store, self.series_index)
        self.writer = GroupCommit(shard, self.series_index, limit=100_000)
        self.evaluator = Evaluator(
            self.store, self.series_index, shard, self.alarms,
            AlarmSettings(**settings),  # type: ignore[arg-type]
            Clock(lambda: self.now_s, lambda: self.now_s - self.clock_set_by_s, self.sleep),
        )  # fmt: skip
        await self.evaluator.start()
        self.running = asyncio.create_task(self.evaluator.run())
        await self.settled()

    async def stop(self) -> None:
        """As if the process were killed: nothing is finished."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def hand_over(self) -> None:
        """Another evaluator goes on; the stores answer again when this one was told to end."""
        await self.stop()
        self.alarms.answering.set()
        self.store.answering.set()
        assert self.evaluator is not None
        await self.evaluator.close()
        await self.start()

    async def sleep(self, seconds: float) -> None:
        """Until the clock has been turned as far."""
        until = self.now_s + seconds
        while self.now_s < until:
            await asyncio.sleep(0.001)

    @property
    def commits(self) -> bool:
        """Whether the stores let anything be committed."""
        answering = self.alarms.answering.is_set() and self.store.answering.is_set()
        return answering and not self.alarms.away

    @property
    def looks(self) -> bool:
        """Whether the stores let an alarm be looked at."""
        return self.alarms.telling.is_set() and not (self.alarms.unreadable or self.store.away)

    async def settled(self) -> None:
        """Until everything that is due is decided and, if the store is there, committed."""
        assert self.running is not None
        quiet = 0
        for _ in range(2000):
            if self.running.done():
                break
            await asyncio.sleep(0.002)
            assert self.evaluator is not None
            if (
                self.evaluator.due_ms > int(self.now_s * 1000)
                and not self.evaluator.arrived
                and (not self.commits or self.evaluator.uncommitted == 0)
                and (not self.looks or not self.evaluator.in_doubt)
            ):
                quiet += 1
                if quiet == 4:  # a busy machine may be between two steps
                    break
            else:
                quiet = 0
        await asyncio.sleep(0.02)

    async def wait(self, seconds: float) -> None:
        """Turn the clock in steps, as time goes by."""
        for _ in range(int(seconds // 5)):
            self.now_s += 5
            await self.settled()

    async def measure(self, value: float, host: str = "a", age_s: float = 0) -> None:
        ids = self.series_index.intern(PROJECT, [Name("ns", (("host", host),))])
        batch = Batch(
            np.array(list(ids.values()), np.int64),
            np.array([int((self.now_s - age_s) * 1000)], np.int64),
            np.array([value]),
        )
        await self.writer.write(batch)
        await self.settled()

    async def alarm(self, expression: str, state: State = U) -> Alarm:
        now = int(self.now_s * 1000)
        made = Alarm(
            str(uuid.uuid4()), PROJECT, f"n{uuid.uuid4()}", expression,
            normal_form(parse(expression)), now, now, state,
        )  # fmt: skip
        await self.alarms.create(made, "joe", 1000)
        if self.evaluator is not None:
            await self.evaluator.watch(made)
        return made

    async def edit(self, alarm: Alarm, **fields: Any) -> None:
        """As a use case does it."""
        assert self.evaluator is not None
        await self.alarms.update(replace(alarm, **fields), "joe")
        await self.evaluator.watch(await self.alarms.get(PROJECT, alarm.id))

    async def changes(self, alarm: Alarm) -> list[tuple[int, State, bool]]:
        """Seconds since the start, new state, at once; oldest first."""
        found = await self.alarms.history(PROJECT, alarm.id, None, 100)
        return [
            (e.transition.at_ms // 1000 - START_S, e.transition.new, e.transition.at_once)
            for e in reversed(found)
        ]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = await Database.open(Settings(server=ServerSettings(data_dir=str(tmp_path))))
    await SqlAccountStore(database).add_project(Project(PROJECT, "shop"), 0, "test")
    store = FailingMeasurements(tmp_path / "metrics", MetricSettings(min_free_bytes=0))
    store.answering = asyncio.Event()
    store.answering.set()
    (tmp_path / "metrics").mkdir()
    store.open()
    series_index = SeriesIndex([], 1000)
    made = World(store, series_index, FailingStore(database))
    yield made
    if made.running is not None:
        await made.stop()
    await store.close()
    await database.close()


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


async def test_a_new_alarm_sees_what_is_stored(world: World) -> None:
    await world.start()
    await world.measure(10, age_s=5)
    alarm = await world.alarm("avg(ns, 120) > 5")
    await world.wait(55)
    assert await world.changes(alarm) == [(65, ALARM, False)]


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


async def test_an_alarm_that_is_forgotten_changes_no_more(world: World) -> None:
    await world.start()
    alarm = await world.alarm("max(ns) > 5")
    assert world.evaluator is not None
    await world.evaluator.forget(alarm.project_id, [alarm.id])
    await world.measure(10)
    await world.wait(60)
    assert await world.changes(alarm) == []
    assert len(world.evaluator) == 0


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


async def test_health_notices_when_evaluation_stands_still(world: World) -> None:
    await world.start()
    assert world.evaluator is not None
    await world.evaluator.ping()
    await world.stop()
    world.now_s += 300
    with pytest.raises(HeliometerError):
        await world.evaluator.ping()


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


async def test_a_state_that_cannot_be_read_is_taken_when_it_can(world: World) -> None:
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
