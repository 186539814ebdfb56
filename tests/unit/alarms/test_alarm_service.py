"""Alarms as a use case: what is stored before it is watched, and what a dry run may cost."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from heliometer.alarms.dry_run import DryRun
from heliometer.alarms.engine.model import Explanation
from heliometer.alarms.expression import Expression, parse
from heliometer.alarms.model import Alarm, AlarmFilter, State
from heliometer.alarms.service import DAY_MS, EVALUATIONS, Alarms, Definition
from heliometer.config import LimitSettings, ServerSettings, Settings
from heliometer.core.errors import Code, HeliometerError, Invalid, Malformed
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import ROLES, Caller
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


@dataclass
class Watch:
    """Notes what it is told. While ``broken`` it can watch nothing; a dry run waits for its turn
    while ``busy``."""

    watched: dict[str, Alarm] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    tried: list[tuple[str, str, int, int]] = field(default_factory=list)
    broken: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def minutes_kept(self, project_id: str) -> int:
        return 4_999_900

    async def watch(self, alarm: Alarm) -> None:
        if self.broken:
            raise HeliometerError(Code.UNAVAILABLE, "The store does not answer.")
        self.watched[alarm.id] = alarm
        self.told.append("watch")

    async def forget(self, project_id: str, alarm_ids: Iterable[str]) -> None:
        for alarm_id in alarm_ids:
            self.watched.pop(alarm_id, None)
        self.told.append("forget")

    async def explain(self, alarm: Alarm) -> Explanation:
        raise NotImplementedError

    async def run(
        self, project_id: str, expression: Expression, start_ms: int, end_ms: int
    ) -> DryRun:
        self.tried.append((project_id, str(expression), start_ms, end_ms))
        await self.go_on.wait()
        return DryRun(start_ms, end_ms, (), (), ())


@dataclass
class World:
    """Two projects on a real database."""

    store: SqlAlarmStore
    shop: Caller
    stock: Caller
    watch: Watch = field(default_factory=Watch)
    now_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.watch.go_on.set()
        self.alarms = Alarms(
            self.store, self.watch, self.watch, self.watch, LimitSettings(), 30,
            lambda: self.now_ms / 1000,
        )  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = Settings(server=ServerSettings(data_dir=str(tmp_path)))
    database = await Database.open(settings)
    identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
    shop, stock = [
        Caller("u", "joe", await identity.create_project(name), name, ROLES["member"])
        for name in ("shop", "stock")
    ]
    yield World(SqlAlarmStore(database), shop, stock)
    identity.close()
    await database.close()


BUSY = Definition(name="Busy", expression="avg(cpu) > 90")


async def test_what_is_created_is_stored_and_watched(world: World) -> None:
    alarm = await world.alarms.create(world.shop, BUSY)
    assert await world.store.get(world.shop.project_id, alarm.id) == alarm
    assert world.watch.watched == {alarm.id: alarm}
    assert (alarm.state, alarm.state_since_ms) == (State.UNDETERMINED, NOW_MS)
    assert alarm.expression == "avg(cpu) > 90"


async def test_what_is_refused_is_neither_stored_nor_watched(world: World) -> None:
    await world.alarms.create(world.shop, BUSY)
    for wanted in (
        BUSY,
        replace(BUSY, expression="avg(cpu"),
        replace(BUSY, name=""),
        replace(BUSY, name="b", severity="dire"),
        replace(BUSY, name="b", ok_actions=("none",)),
    ):
        with pytest.raises(HeliometerError):
            await world.alarms.create(world.shop, wanted)
    assert len(await world.alarms.find(world.shop, AlarmFilter())) == 1
    assert world.watch.told == ["watch"]


async def test_an_alarm_that_cannot_be_watched_yet_is_stored_and_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.watch.broken = True
    with caplog.at_level(logging.ERROR):
        alarm = await world.alarms.create(world.shop, BUSY)
    assert await world.alarms.get(world.shop, alarm.id) == alarm
    assert alarm.id in caplog.text
    assert "does not answer" in caplog.text


async def test_a_disabled_alarm_is_not_watched_until_it_is_enabled(world: World) -> None:
    alarm = await world.alarms.create(world.shop, replace(BUSY, enabled=False))
    assert world.watch.told == []
    with pytest.raises(HeliometerError) as refused:
        await world.alarms.explain(world.shop, alarm.id)
    assert refused.value.code is Code.CONFLICT
    await world.alarms.update(world.shop, alarm.id, Definition(enabled=True))
    assert list(world.watch.watched) == [alarm.id]
    await world.alarms.update(world.shop, alarm.id, Definition(enabled=False))
    assert world.watch.watched == {}


async def test_only_a_change_that_the_engine_minds_starts_the_watch_anew(world: World) -> None:
    alarm = await world.alarms.create(world.shop, BUSY)
    world.now_ms += 5
    renamed = await world.alarms.update(world.shop, alarm.id, Definition(name="Lazy"))
    assert renamed == replace(alarm, name="Lazy", updated_ms=NOW_MS + 5)
    assert world.watch.told == ["watch"]
    changed = await world.alarms.update(world.shop, alarm.id, Definition(expression="cpu > 1"))
    assert world.watch.told == ["watch", "watch"]
    assert world.watch.watched[alarm.id] == changed
    world.now_ms -= 60_000
    late = await world.alarms.update(world.shop, alarm.id, Definition(name="Back"))
    assert late.updated_ms == NOW_MS + 5, "a clock that was set back makes no alarm younger"


async def test_what_is_deleted_is_forgotten(world: World) -> None:
    alarm = await world.alarms.create(world.shop, BUSY)
    with pytest.raises(HeliometerError):
        await world.alarms.delete(world.stock, alarm.id)
    assert alarm.id in world.watch.watched
    await world.alarms.delete(world.shop, alarm.id)
    assert world.watch.watched == {}


# -- dry runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end", "refused"), [
    (HOUR_MS, None, ""),
    (HOUR_MS, 0, ""),
    (30 * DAY_MS, None, ""),
    (31 * DAY_MS, 10 * DAY_MS, ""),
    (HOUR_MS, HOUR_MS, "must be before"),
    (0, None, "must be before"),
    (-HOUR_MS, -2 * HOUR_MS, "must be before"),
    (31 * DAY_MS + 1, 10 * DAY_MS, "kept for 30 days"),
])  # fmt: skip
async def test_a_dry_run_covers_what_may_be_stored(
    world: World, start: int, end: int | None, refused: str
) -> None:
    """``start`` and ``end`` count back from now; 30 days are kept."""
    until = None if end is None else NOW_MS - end
    asked = world.alarms.dry_run(world.shop, "cpu > 1", NOW_MS - start, until)
    if refused:
        with pytest.raises(Malformed, match=f"start_time: .*{refused}"):
            await asked
        assert world.watch.tried == []
    else:
        await asked
        assert world.watch.tried == [
            (world.shop.project_id, "cpu > 1", NOW_MS - start, NOW_MS - (end or 0))
        ]


async def test_what_is_still_to_come_is_not_tried(world: World) -> None:
    await world.alarms.dry_run(world.shop, "cpu > 1", NOW_MS - HOUR_MS, NOW_MS + HOUR_MS)
    assert world.watch.tried[0][3] == NOW_MS


async def test_a_dry_run_of_many_subexpressions_covers_less_time(world: World) -> None:
    text = " or ".join(f"cpu > {i}" for i in range(100))
    most_ms = EVALUATIONS // 100 * 60_000
    await world.alarms.dry_run(world.shop, text, NOW_MS - most_ms, None)
    with pytest.raises(Invalid, match="100 subexpressions a dry run covers at most 33 hours"):
        await world.alarms.dry_run(world.shop, text, NOW_MS - most_ms - 60_000, None)
    with pytest.raises(Invalid, match=r"\n +\^"):
        await world.alarms.dry_run(world.shop, "cpu >", NOW_MS - HOUR_MS, None)
    assert parse(text) == parse(world.watch.tried[0][1])
    assert len(world.watch.tried) == 1


async def test_a_project_tries_one_expression_at_a_time(world: World) -> None:
    world.watch.go_on.clear()
    start = NOW_MS - HOUR_MS
    under_way = asyncio.create_task(world.alarms.dry_run(world.shop, "cpu > 1", start, None))
    neighbour = asyncio.create_task(world.alarms.dry_run(world.stock, "cpu > 1", start, None))
    await asyncio.sleep(0)
    with pytest.raises(HeliometerError) as refused:
        await asyncio.wait_for(world.alarms.dry_run(world.shop, "cpu > 2", start, None), 30)
    assert refused.value.code is Code.RATE_LIMITED
    assert refused.value.retry_after
    world.watch.go_on.set()
    await under_way
    await neighbour
    await world.alarms.dry_run(world.shop, "cpu > 3", start, None)
    assert len(world.watch.tried) == 3


async def test_long_periods_take_only_so_much_memory(world: World) -> None:
    with pytest.raises(HeliometerError) as refused:
        await world.alarms.create(world.shop, Definition(name="n", expression="avg(ns, 86400) > 1"))
    assert refused.value.code is Code.RATE_LIMITED
    assert "needs 2048" in refused.value.message
