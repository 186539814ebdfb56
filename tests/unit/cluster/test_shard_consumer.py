"""The owner of a part, message by message as RabbitMQ hands them over, with real stores."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiormq.abc import DeliveredMessage
from pamqp import commands
from pamqp.header import ContentHeader

from heliometer.alarms.clock import Clock
from heliometer.alarms.evaluator import Evaluator
from heliometer.alarms.expression import normal_form, parse
from heliometer.alarms.model import Alarm, State
from heliometer.cluster.consumer import ShardConsumer
from heliometer.cluster.feed_publisher import ShardBatch
from heliometer.cluster.message import TICK, Handover, Unit, encode, new_token, own_receipt
from heliometer.cluster.receipts import SharedReceipts
from heliometer.cluster.received import Receiver
from heliometer.cluster.retrying_store import RetryingStore
from heliometer.cluster.series_catalog import SeriesCatalog
from heliometer.cluster.shard_evaluation import ShardEvaluation
from heliometer.cluster.watermark import Watermark
from heliometer.config import AlarmSettings, MetricSettings, ServerSettings, Settings
from heliometer.core.background import Supervisor
from heliometer.identity.accounts import Project
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_ids import SeriesIds
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.pipeline.shard import Shard
from heliometer.projects.model import ProjectShard
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database

PROJECT = "a" * 32
START_S = 1_795_000_020 // 60 * 60
OK, ALARM = State.OK, State.ALARM


class Channel:
    """Notes what is acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    async def basic_ack(self, delivery_tag: int, **_: Any) -> None:
        self.acknowledged.append(delivery_tag)


class Neighbours:
    """Others, who are told, and what they were given."""

    name = "me"
    is_doubtful = False

    def __init__(self) -> None:
        self.passed_on: list[float] = []
        self.confirming = asyncio.Event()
        self.confirming.set()
        self.publishing = asyncio.Event()

    async def prepare(self, shard: int, batch: Batch) -> ShardBatch:
        return ShardBatch(shard, batch)

    async def commit(self, prepared: ShardBatch) -> None:
        self.publishing.set()
        await self.confirming.wait()
        self.passed_on += prepared.batch.value.tolist()

    async def abort(self, prepared: ShardBatch) -> None: ...

    async def load_series(self) -> list[Series]:
        return []

    async def series_since(self, at_ms: int) -> list[Series]:
        return []

    def reply(self, *_: Any) -> None: ...
    def send(self, *_: Any) -> None: ...
    def on(self, *_: Any) -> None: ...
    def on_connect(self, *_: Any) -> None: ...


class World:
    """One part, its owner, and what others send to it. Times are seconds after ``START_S``."""

    def __init__(self, store: DuckDBStore, alarms: SqlAlarmStore) -> None:
        self.store, self.alarms = store, alarms
        self.now_s = START_S + 10.0
        self.neighbours = Neighbours()
        self.ids = SeriesIds(1)
        self.series_index = SeriesIndex([], 1000, self.ids)
        (self.series,) = self.series_index.intern(PROJECT, [Name("ns", (("host", "a"),))]).values()
        self.consumer = self.owner()

    def owner(self) -> ShardConsumer:
        """One more process that may own the shard."""

        def make_evaluator() -> Evaluator:
            return Evaluator(
                self.store, self.series_index, shard, self.alarms,
                AlarmSettings(at_once=False, flapping_changes=100),
                Clock(watermark, watermark, watermark.sleep), shard=ProjectShard(0, 1),
            )  # fmt: skip

        def clock() -> float:
            return self.now_s

        others: Any = self.neighbours
        series_catalog = SeriesCatalog(others, self.series_index, self.ids, others, clock)
        receipts = SharedReceipts(self.store, clock)
        shard = Shard(
            0, store=RetryingStore(self.store, 0, others), series_index=self.series_index,
            receipts=receipts, feed=self.neighbours, series_stored=series_catalog.stored,
        )  # fmt: skip
        watermark = Watermark(0, clock)
        return ShardConsumer(
            shard,
            name="me",
            evaluation=ShardEvaluation(
                ProjectShard(0, 1),
                shard,
                watermark,
                make_evaluator,
                self.alarms,
                Supervisor().life("shard-evaluation"),
            ),
            watermark=watermark,
            receiver=Receiver(0, self.ids, series_catalog, others),
            receipts=receipts,
            series_catalog=series_catalog,
            clock=clock,
        )

    async def fail_over(self) -> None:
        """The owner goes without finishing anything; another takes its place."""
        await self.consumer.stop()
        self.consumer = self.owner()

    def post(
        self, at_s: float, value: float, key: str = "", ahead_s: float = 0
    ) -> DeliveredMessage:
        """A measurement of now; ``ahead_s``: how fast the clock of the API process is."""
        at_ms = int((START_S + at_s) * 1000)
        shared = self.ids.to_shared(np.array([self.series]))
        receipt = Receipt(PROJECT, key, b"body", at_ms) if key else own_receipt(new_token(), at_ms)
        batch = Batch(shared, np.array([at_ms]), np.array([value]))
        body = encode(Handover(new_token(), [], [Unit(1, receipt)], batch))
        sent = datetime.fromtimestamp(at_ms // 1000 + ahead_s, UTC)
        return _message(body, commands.Basic.Properties(timestamp=sent))

    async def deliver(self, messages: Iterable[DeliveredMessage]) -> None:
        """As many at a time as may be waiting together."""
        waiting = list(messages)
        channel: Any = Channel()
        for first in range(0, len(waiting), 7):
            await self.consumer.work(channel, waiting[first : first + 7])
        for _ in range(500):
            await asyncio.sleep(0.002)
            if (
                self.consumer.evaluation.evaluator is None
                or not self.consumer.evaluation.evaluator.uncommitted
            ):
                break

    async def alarm(self, expression: str, state: State = State.UNDETERMINED) -> Alarm:
        now = START_S * 1000
        made = Alarm(
            str(uuid.uuid4()), PROJECT, f"n{uuid.uuid4()}", expression,
            normal_form(parse(expression)), now, now, state,
        )  # fmt: skip
        await self.alarms.create(made, "joe", 1000)
        return made

    async def changes(self, alarm: Alarm) -> list[tuple[int, State]]:
        """Minutes since the start whose evaluation changed it, and the new state; oldest first."""
        found = await self.alarms.history(PROJECT, alarm.id, None, 1000)
        return [
            (e.transition.minute_ms // 60_000 - START_S // 60, e.transition.new)
            for e in reversed(found)
        ]


def tick(at_s: float) -> DeliveredMessage:
    """What an evaluator sends every second."""
    body = str(int((START_S + at_s) * 1000)).encode()
    return _message(body, commands.Basic.Properties(message_type=TICK))


def _message(
    body: bytes, properties: commands.Basic.Properties, *, redelivered: bool = False
) -> DeliveredMessage:
    header = ContentHeader(body_size=len(body), properties=properties)
    delivery: Any = commands.Basic.Deliver("me", 1, redelivered, "", "")
    channel: Any = Channel()
    return DeliveredMessage(delivery, header, body, channel)


def redelivered(message: DeliveredMessage) -> DeliveredMessage:
    """The same, which somebody had before."""
    return _message(message.body, message.header.properties, redelivered=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = await Database.open(Settings(server=ServerSettings(data_dir=str(tmp_path))))
    await SqlAccountStore(database).add_project(Project(PROJECT, "shop"), 0, "test")
    store = DuckDBStore(tmp_path / "metrics", MetricSettings(min_free_bytes=0))
    store.open()
    made = World(store, SqlAlarmStore(database))
    yield made
    await made.consumer.stop()
    await store.close()
    await database.close()


def day(world: World, without_ticks: tuple[int, int]) -> list[DeliveredMessage]:
    """Twelve minutes of posts, high in even ones and low in odd ones."""
    first, last = without_ticks
    messages = []
    for at in range(10, 730, 5):
        if at % 10 == 0:
            messages.append(world.post(at, 1 if at // 60 % 2 else 10))
        if not first <= at < last:
            messages.append(tick(at))
    world.now_s = START_S + 730
    return messages


WAVE = [(minute + 1, OK if minute % 2 else ALARM) for minute in range(12)]


@pytest.mark.parametrize("fails_over", [False, True])
@pytest.mark.parametrize("without", [(0, 0), (120, 240), (120, 700)])
async def test_what_was_posted_while_nobody_told_the_time_is_evaluated_like_any_other(
    world: World, without: tuple[int, int], fails_over: bool
) -> None:
    """As when all evaluators were away, and posts were taken meanwhile."""
    high = await world.alarm("max(ns) > 5")
    silent = await world.alarm("count(ns) < 1")
    messages = day(world, without)
    at = next(i for i, m in enumerate(messages) if (120 if fails_over else 0) < _sent_s(m))
    await world.deliver(messages[:at])
    if fails_over:
        await world.fail_over()
    await world.deliver(messages[at:])
    assert await world.changes(high) == WAVE
    assert await world.changes(silent) == [(1, OK)]


async def test_a_message_is_acknowledged_once_it_is_stored_and_in_the_feed(world: World) -> None:
    channel: Any = Channel()
    world.neighbours.confirming.clear()
    working = asyncio.create_task(world.consumer.work(channel, [world.post(1, 5)]))
    await asyncio.wait_for(world.neighbours.publishing.wait(), 30)
    stored = await world.store.read([world.series], START_S * 1000, (START_S + 60) * 1000)
    assert stored.value.tolist() == [5]
    assert not channel.acknowledged
    world.neighbours.confirming.set()
    await working
    assert channel.acknowledged == [1]


def _sent_s(message: DeliveredMessage) -> float:
    sent = message.header.properties.timestamp
    return (sent.timestamp() if sent else int(message.body) / 1000) - START_S


async def test_minutes_in_which_nothing_at_all_was_sent_prove_nothing(world: World) -> None:
    """As when RabbitMQ was away, and posts were refused; what it had is handed over only now."""
    silent = await world.alarm("count(ns) < 1")
    before = [world.post(20, 1), *map(tick, range(20, 100))]
    world.now_s = START_S + 800
    after = [x for at in range(700, 790) for x in (world.post(at, 1), tick(at))]
    await world.deliver(before + after)
    assert await world.changes(silent) == [(1, OK)]
    world.now_s = START_S + 1000
    await world.deliver(tick(at) for at in range(790, 1000))
    assert (await world.changes(silent))[1:] == [(15, ALARM)], "now it is silent for sure"


async def test_what_is_handed_over_again_to_an_owner_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As RabbitMQ does when its own nodes have lost each other for a moment."""
    alarm = await world.alarm("sum(ns) > 15")
    post = world.post(20, 10)
    world.now_s = START_S + 200
    await world.deliver([tick(11), post, tick(21)])

    async def leave_out(*_: object, **__: object) -> None:
        """A shared store finds that it has it."""

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "append", leave_out)
        await world.deliver([redelivered(post)])
    await world.deliver([tick(22), tick(50), tick(66)])
    assert await world.changes(alarm) == [(1, OK)]
    await world.deliver([world.post(67, 10), world.post(68, 10), tick(90), tick(110), tick(126)])
    assert await world.changes(alarm) == [(1, OK), (2, ALARM)]


async def test_what_an_owner_stored_and_did_not_pass_on_is_passed_on(world: World) -> None:
    posts = [world.post(20, 1, "a"), world.post(21, 2, "b"), world.post(22, 3)]
    await world.deliver([tick(11), posts[0], posts[2]])
    world.neighbours.passed_on.clear()  # it ended before it got round to that
    await world.fail_over()
    await world.deliver([*map(redelivered, posts[:2]), tick(30)])
    assert sorted(world.neighbours.passed_on) == [1, 2]
    stored = await world.store.read([world.series], 0, (START_S + 100) * 1000)
    assert sorted(stored.value.tolist()) == [1, 2, 3]


@pytest.mark.parametrize("at", [10, 50])
@pytest.mark.parametrize("ahead", [-40, -15, 15, 45])
async def test_clocks_that_differ_look_like_no_silence(world: World, ahead: int, at: int) -> None:
    """With a post a minute, of which each is long after the one before."""
    silent = await world.alarm("count(ns) < 1")
    waiting = []
    for second in range(10, 330):
        waiting.append(tick(second))
        if second % 60 == at:
            waiting.append(world.post(second, 1, ahead_s=ahead))
        if second % 10 == 9:
            world.now_s = START_S + second
            await world.deliver(waiting)
            waiting.clear()
    assert ALARM not in [state for _, state in await world.changes(silent)]
    assert world.consumer.evaluation.evaluator is not None
    assert world.consumer.evaluation.evaluator.missed == 0


async def test_a_clock_that_is_half_an_hour_ahead_is_not_believed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    silent = await world.alarm("count(ns) < 1")
    await world.deliver([tick(11), world.post(20, 1)])
    for at in range(60, 250):
        world.now_s = START_S + at
        await world.deliver([world.post(at, 1), tick(at), tick(at + 1800)])
    assert await world.changes(silent) == [(1, OK)]
    assert world.consumer.lag_s < 1
    assert len([r for r in caplog.records if "not believed" in r.message]) == 1
