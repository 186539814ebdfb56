"""The loop around the engine: what it takes up, catches up on and commits, by a turned clock, over
real stores."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from heliometer.alarms.loop import Evaluator
from heliometer.config import AlarmSettings, MetricSettings, ServerSettings, Settings
from heliometer.expression import normal_form, parse
from heliometer.ingest.registry import Name, Registry
from heliometer.ingest.writer import Writer
from heliometer.model.accounts import Project
from heliometer.model.alarms import Alarm, Outcome, State, Transition
from heliometer.model.errors import Code, HeliometerError
from heliometer.model.measurements import Batch
from heliometer.model.projects import WHOLE, Share
from heliometer.stores.measurements.duckdb import DuckDBStore
from heliometer.stores.resources.accounts import SqlAccountStore
from heliometer.stores.resources.alarms import SqlAlarmStore
from heliometer.stores.resources.database import Database

PROJECT = "a" * 32
START_S = 1_795_000_020 // 60 * 60
U, OK, ALARM = State.UNDETERMINED, State.OK, State.ALARM


class FailingStore(SqlAlarmStore):
    """A real store whose database can be away."""

    away = False

    async def commit(
        self, outcome: Outcome, share: Share = WHOLE, epoch: int | None = None
    ) -> list[str]:
        if self.away:
            raise HeliometerError(Code.UNAVAILABLE, "The resource database does not answer.")
        return await super().commit(outcome, share, epoch)


@dataclass
class World:
    """Stores that stay, and an evaluator that comes and goes."""

    store: DuckDBStore
    registry: Registry
    writer: Writer
    alarms: FailingStore
    now_s: float = START_S + 10
    evaluator: Evaluator | None = None
    running: asyncio.Task[None] | None = None

    async def start(self, **settings: object) -> None:
        self.writer._listeners.clear()
        self.evaluator = Evaluator(
            self.store, self.registry, self.writer, self.alarms,
            AlarmSettings(**settings),  # type: ignore[arg-type]
            lambda: self.now_s, steady=lambda: self.now_s, sleep=self.sleep,
        )  # fmt: skip
        await self.evaluator.start()
        self.running = asyncio.create_task(self.evaluator.run())
        await self.settled()

    async def stop(self) -> None:
        """As if the process were killed: nothing is finished."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def sleep(self, seconds: float) -> None:
        """Until the clock has been turned as far."""
        until = self.now_s + seconds
        while self.now_s < until:
            await asyncio.sleep(0.001)

    async def settled(self) -> None:
        """Until everything that is due is decided and, if the store is there, committed."""
        quiet = 0
        for _ in range(2000):
            await asyncio.sleep(0.002)
            assert self.evaluator is not None
            due = (int(self.now_s) - 5) // 60 * 60_000
            if (
                self.evaluator._evaluated_ms >= due
                and not self.evaluator._stored
                and (self.alarms.away or self.evaluator.uncommitted == 0)
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
        ids = self.registry.intern(PROJECT, [Name("ns", (("host", host),))])
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
    store = DuckDBStore(tmp_path / "metrics", MetricSettings(min_free_bytes=0))
    (tmp_path / "metrics").mkdir()
    store.open()
    registry = Registry([], 1000)
    made = World(store, registry, Writer(store, registry, limit=100_000), FailingStore(database))
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
    assert world.evaluator is not None
    steady = world.evaluator._steady
    for step in (3600, -7200):
        offset = world.now_s - steady()
        world.now_s += step
        world.evaluator._steady = lambda o=offset, s=step: world.now_s - o - s  # type: ignore[misc]
        steady = world.evaluator._steady
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
