"""The feed between processes, judged without a broker: whatever somebody subscribed to arrives,
whoever was the owner before, and whatever was defined while there was no connection."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from aiormq.abc import AbstractConnection

from heliometer.cluster import feed_publisher as module
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import SubscriptionsChanged
from heliometer.cluster.feed_publisher import FeedPublisher
from heliometer.cluster.remote_feed import FeedConsumer
from heliometer.config import AmqpSettings, ServerSettings, Settings
from heliometer.core.background import Supervisor
from heliometer.core.errors import Code, HeliometerError
from heliometer.feed import messages as messages_module
from heliometer.feed.builtin import BuiltinFeed
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Endpoint, Subscription
from heliometer.feed.subscription_index import SubscriptionIndex
from heliometer.identity.accounts import Project
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.series_ids import SeriesIds, shared_id
from heliometer.metrics.series_index import SeriesIndex
from heliometer.storage.feed_sqlite.store import SqliteMessageStore
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.feed import SqlFeedStore

SHOP = "a" * 32
ENDPOINT = Endpoint("e", SHOP, "hash", 0)
SOON_S = 30.0


class Channel:
    """What is published and acknowledged; ``deliver`` is what the broker does."""

    def __init__(self) -> None:
        self.closing = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[Any] = set()
        self.published: list[bytes] = []
        self.acknowledged: list[int] = []
        self.consuming = asyncio.Event()

    async def basic_publish(self, body: bytes, **_: Any) -> None:
        self.published.append(body)

    async def basic_qos(self, **_: Any) -> None:
        pass

    async def basic_consume(self, queue: str, put: Any) -> None:
        self._put = put
        self.consuming.set()

    async def basic_ack(self, delivery_tag: int, **_: Any) -> None:
        self.acknowledged.append(delivery_tag)

    async def deliver(self, *content: tuple[str, list[bytes]]) -> None:
        await self.consuming.wait()
        await self._put(Message(msgspec.msgpack.encode(content), delivery_tag=1))


class Message(msgspec.Struct):
    body: bytes
    delivery_tag: int


class Connection:
    """One channel of a broker."""

    def __init__(self) -> None:
        self.only = Channel()

    async def channel(self, **_: Any) -> Channel:
        return self.only


@asynccontextmanager
async def connected(part: FeedPublisher | FeedConsumer) -> AsyncIterator[Channel]:
    """A connection that stands, over which nobody has looked yet."""
    connection = Connection()
    serving = asyncio.create_task(part.serve(cast(AbstractConnection, connection)))
    await asyncio.sleep(0)
    try:
        yield connection.only
    finally:
        serving.cancel()
        await asyncio.wait({serving})


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(SOON_S):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def feed(tmp_path: Path) -> AsyncIterator[SqlFeedStore]:
    """Where a project is."""
    database = await Database.open(Settings(server=ServerSettings(data_dir=str(tmp_path))))
    await SqlAccountStore(database).add_project(Project(SHOP, "shop"), 0, "test")
    yield SqlFeedStore(database)
    await database.close()


class Owner:
    """What passes on in a process, without the parts that store."""

    def __init__(self, feed: SqlFeedStore) -> None:
        self.bus = EventBus("me")
        self.series_index = SeriesIndex([], 1 << 30, SeriesIds())
        self.publisher = FeedPublisher(feed, self.series_index, self.bus)
        self._feed = feed
        self._subscriptions = 0

    async def subscribe(self, **dimensions: str) -> None:
        """As another process does: into the database."""
        if not self._subscriptions:
            await self._feed.create_endpoint(ENDPOINT, "joe")
        self._subscriptions += 1
        wanted = Subscription(
            str(self._subscriptions), "e", SHOP, "web", tuple(dimensions.items()), 0
        )
        await self._feed.create_subscription(wanted, "joe", 100)

    def hear_of(self, *hosts: str) -> None:
        """Series that another process has stored, as the catalogue learns them."""
        named = [Series(0, SHOP, "web", (("host", host),)) for host in hosts]
        self.series_index.adopt(s._replace(id=shared_id(s)) for s in named)

    async def pass_on(self, *hosts: str) -> None:
        """One measurement of each, none of whose series the part takes for new."""
        found = [self.series_index.select(SHOP, "web", {"host": host})[0].id for host in hosts]
        times = np.zeros(len(found), np.int64)
        await self.publisher.publish(0, Batch(np.array(found), times, np.zeros(len(found))))


@pytest.fixture
def owner(feed: SqlFeedStore) -> Owner:
    return Owner(feed)


def hosts(channel: Channel) -> list[str]:
    """Of the measurements that were passed on."""
    found = []
    for body in channel.published:
        for project_id, messages in msgspec.msgpack.decode(
            body, type=list[tuple[str, list[bytes]]]
        ):
            assert project_id == SHOP
            found += [msgspec.json.decode(m)["dimensions"]["host"] for m in messages]
    return found


async def test_series_that_the_former_owner_stored_flow(owner: Owner) -> None:
    await owner.subscribe(host="before")
    await owner.subscribe(host="after")
    owner.hear_of("before")
    async with connected(owner.publisher) as channel:
        await owner.bus.catch_up()
        owner.hear_of("after", "unwanted")
        await owner.pass_on("before", "after", "unwanted")
        assert hosts(channel) == ["before", "after"]


async def test_series_flow_to_whoever_subscribes_later(owner: Owner) -> None:
    owner.hear_of("a", "b", "c")
    async with connected(owner.publisher) as channel:
        await owner.bus.catch_up()
        await owner.pass_on("a")
        assert hosts(channel) == []
        await owner.subscribe(host="a")
        await owner.publisher.subscriptions_changed(SubscriptionsChanged(SHOP))
        owner.hear_of("d")
        await owner.subscribe(host="b")
        await owner.subscribe(host="d")
        await owner.publisher.subscriptions_changed(SubscriptionsChanged(SHOP))
        await owner.pass_on("a", "b", "c", "d")
        assert hosts(channel) == ["a", "b", "d"]


async def test_many_series_at_once_leave_everybody_else_a_turn(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages_module, "MATCHED_AT_ONCE", 10)
    await owner.subscribe(host="95")
    await owner.subscribe(host="5")
    async with connected(owner.publisher) as channel:
        await owner.bus.catch_up()
        owner.hear_of(*map(str, range(100)))
        turns = 0

        async def everybody_else() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(everybody_else())
        # Side by side, as parts do it: who comes second must not overtake.
        await asyncio.gather(owner.pass_on("95"), owner.pass_on("5"))
        assert turns >= 10
        other.cancel()
        assert sorted(hosts(channel)) == ["5", "95"]


async def test_a_series_is_matched_once(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    know, matched = SubscriptionIndex.know, Counter[int]()

    def counted(self: SubscriptionIndex, series: Sequence[Series]) -> None:
        matched.update(s.id for s in series)
        know(self, series)

    monkeypatch.setattr(SubscriptionIndex, "know", counted)
    await owner.subscribe(host="none of them")
    owner.hear_of(*map(str, range(100)))
    async with connected(owner.publisher):
        await owner.bus.catch_up()
        await owner.pass_on("1")
        owner.hear_of("new")
        for _ in range(3):
            await owner.pass_on("1")
    assert matched == {101: 1}  # a subscription that is new has looked for the others by itself


async def test_what_is_stored_before_the_subscriptions_are_known_waits_for_them(
    owner: Owner,
) -> None:
    await owner.subscribe(host="a")
    owner.hear_of("a")
    async with connected(owner.publisher) as channel:
        passed = asyncio.create_task(owner.pass_on("a"))
        await asyncio.sleep(0.05)
        assert not passed.done()
        await owner.bus.catch_up()
        async with asyncio.timeout(SOON_S):
            await passed
        assert hosts(channel) == ["a"]


async def test_it_is_not_passed_on_when_they_cannot_be_read(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOAD_S", 0.01)
    owner.hear_of("a")
    async with connected(owner.publisher):
        with pytest.raises(HeliometerError, match="subscriptions") as refused:
            await owner.pass_on("a")
        assert refused.value.code is Code.UNAVAILABLE


async def test_what_was_subscribed_to_without_a_connection_counts_with_the_next(
    owner: Owner,
) -> None:
    owner.hear_of("a")
    async with connected(owner.publisher):
        await owner.bus.catch_up()
        await owner.pass_on("a")
    await owner.subscribe(host="a")  # nobody can tell us
    async with connected(owner.publisher) as channel:
        passed = asyncio.create_task(owner.pass_on("a"))
        await asyncio.sleep(0.05)
        assert not passed.done()
        await owner.bus.catch_up()
        async with asyncio.timeout(SOON_S):
            await passed
        assert hosts(channel) == ["a"]


class Receiver:
    """The feed role of a process."""

    def __init__(self, feed: SqlFeedStore, messages: SqliteMessageStore) -> None:
        self.bus = EventBus("me")
        series_index = SeriesIndex([], 10)
        self.queues = FeedHub(
            messages,
            series_index,
            lambda: 0.0,
            limit=100,
            keep_s=100,
        )
        builtin = BuiltinFeed(AmqpSettings(listen=""), self.queues, Supervisor())
        self.consumer = FeedConsumer(builtin, self.queues, feed, self.bus, 1)

    async def has(self, channel: Channel, number: int) -> None:
        """All is acknowledged, and the project's queue has messages."""
        await until(lambda: channel.acknowledged)
        assert self.queues.usage(SHOP).queued == number


@pytest.fixture
async def messages(tmp_path: Path) -> AsyncIterator[SqliteMessageStore]:
    store = SqliteMessageStore(tmp_path / "feed.sqlite")
    store.open()
    yield store
    await store.close()


@pytest.fixture
def receiver(feed: SqlFeedStore, messages: SqliteMessageStore) -> Receiver:
    return Receiver(feed, messages)


async def test_messages_wait_until_the_endpoints_are_known(
    receiver: Receiver, feed: SqlFeedStore
) -> None:
    await feed.create_endpoint(ENDPOINT, "joe")
    async with connected(receiver.consumer) as channel:
        await asyncio.sleep(0.05)
        assert not channel.consuming.is_set()
        await receiver.bus.catch_up()
        await channel.deliver((SHOP, [b"{}"]))
        await receiver.has(channel, 1)


async def test_messages_are_not_lost_with_an_endpoint_that_was_made_anew_without_a_connection(
    receiver: Receiver, feed: SqlFeedStore
) -> None:
    await feed.create_endpoint(ENDPOINT, "joe")
    async with connected(receiver.consumer):
        await receiver.bus.catch_up()
    await feed.delete_endpoint(SHOP, ENDPOINT.id, "joe")
    await feed.create_endpoint(Endpoint("another", SHOP, "hash", 0), "joe")
    async with connected(receiver.consumer) as channel:
        delivering = asyncio.create_task(channel.deliver((SHOP, [b"{}"])))
        await asyncio.sleep(0.05)
        await receiver.bus.catch_up()
        await delivering
        await receiver.has(channel, 1)


async def test_an_endpoint_is_looked_for_before_its_messages_are_dropped(
    receiver: Receiver, feed: SqlFeedStore
) -> None:
    async with connected(receiver.consumer) as channel:
        await receiver.bus.catch_up()
        await feed.create_endpoint(ENDPOINT, "joe")  # and we are not told in time
        await channel.deliver((SHOP, [b"{}", b"{}"]), ("b" * 32, [b"of no endpoint"]))
        await receiver.has(channel, 2)
