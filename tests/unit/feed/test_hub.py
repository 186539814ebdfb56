"""What a shard puts into the queues: prepared before it is stored, and shown only after."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Subscription
from heliometer.feed.queue import Message
from heliometer.metrics.model import Batch
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.storage.feed_sqlite.store import SqliteMessageStore

SHOP, STOCK = "a" * 32, "b" * 32


class Consumer:
    """Takes everything, or fails."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.fails = False

    def room(self) -> int:
        return 1000

    def take(self, messages: Sequence[Message]) -> None:
        if self.fails:
            raise RuntimeError("a mistake of ours")
        self.numbers += [m.number for m in messages]


class World:
    """Two projects with an endpoint and a subscription, and a consumer of each."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteMessageStore(folder / "feed.sqlite")
        self.store.open()
        index = SeriesIndex([], 100)
        name = Name("web", (("host", "a"),))
        self.series = [index.intern(project, [name])[name] for project in (SHOP, STOCK)]
        self.hub = FeedHub(self.store, index, lambda: 0.0, limit=100, keep_s=100)
        self.consumers = {SHOP: Consumer(), STOCK: Consumer()}

    async def start(self) -> None:
        subscriptions = [
            Subscription(project, "e", project, "web", (("host", "a"),), 0)
            for project in (SHOP, STOCK)
        ]
        await self.hub.load([SHOP, STOCK], subscriptions)
        for project, consumer in self.consumers.items():
            self.hub[project].attach(consumer)

    def batch(self, rows: int) -> Batch:
        """So many measurements of each project."""
        series = np.repeat(np.array(self.series), rows)
        return Batch(series, np.zeros(len(series), np.int64), np.arange(float(len(series))))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.start()
    yield made
    await made.hub.close()
    await made.store.close()


async def test_what_is_prepared_is_on_disk_and_shown_after_the_commit(world: World) -> None:
    prepared = await world.hub.prepare(0, world.batch(2))
    assert await world.store.read(SHOP, 0) is not None
    assert world.consumers[SHOP].numbers == []
    await world.hub.commit(prepared)
    assert world.consumers[SHOP].numbers == world.consumers[STOCK].numbers == [0, 1]


async def test_what_could_not_be_stored_is_shown_to_nobody(world: World) -> None:
    await world.hub.abort(await world.hub.prepare(0, world.batch(2)))
    assert await world.store.read(SHOP, 0) is None
    await world.hub.commit(await world.hub.prepare(0, world.batch(1)))
    assert world.consumers[SHOP].numbers == [0], "its numbers are free again"
    assert world.hub.usage(SHOP).published == 1


async def test_a_consumer_that_fails_makes_no_post_fail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.consumers[SHOP].fails = True
    await world.hub.commit(await world.hub.prepare(0, world.batch(1)))
    assert "could not be handed" in caplog.text
