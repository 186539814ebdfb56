"""Real stores that can fail, and an evaluator over them by a clock that tests turn."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from heliometer.alarms.clock import Clock
from heliometer.alarms.evaluator import Evaluator
from heliometer.alarms.expression import normal_form, parse
from heliometer.alarms.model import Alarm, Outcome, State
from heliometer.config import AlarmSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.pipeline.group_commit import GroupCommit
from heliometer.projects.model import ALL_PROJECTS, ProjectShard
from heliometer.storage.duckdb.store import DuckDBStore
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
