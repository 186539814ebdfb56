"""The owner's side of the feed: sends measurements that are subscribed to, to the feed role."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import aiormq
import msgspec
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelInvalidStateError

from heliometer.cluster.connection import FEED, persistent, until_closed
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import SubscriptionsChanged
from heliometer.cluster.retrying import until_done
from heliometer.core.errors import Code, HeliometerError
from heliometer.feed.messages import KnownSeries, SubscribedMessages
from heliometer.feed.model import Subscription
from heliometer.feed.ports import FeedStore
from heliometer.metrics.model import Batch

CONFIRM_S = 10.0
LOAD_S = 5.0
"""How long to wait for the subscriptions before logging that they are missing, in seconds."""

_encoder = msgspec.msgpack.Encoder()


class ShardBatch(NamedTuple):
    """Measurements being stored, and the shard that they belong to."""

    shard: int
    batch: Batch


class FeedPublisher:
    """The feed of all shards of this process, with the subscriptions of all projects."""

    def __init__(self, feed_store: FeedStore, series: KnownSeries, bus: EventBus) -> None:
        self._feed_store = feed_store
        self._messages = SubscribedMessages(series)
        self._known: dict[str, Subscription] = {}
        self._loaded = asyncio.Event()
        """Set once ``_known`` has all subscriptions from before the connection was made."""
        self._channel: AbstractChannel | None = None
        self._learning = asyncio.Lock()
        """Held while subscriptions are read and applied, so that the last read wins."""
        bus.on(SubscriptionsChanged, self.subscriptions_changed)
        bus.on_connect(self.load)

    async def load(self) -> None:
        """Load the subscriptions of all projects."""
        async with self._learning:
            now = await self._feed_store.load_subscriptions()
            self._learn(list(self._known.values()), now)
        self._loaded.set()

    async def subscriptions_changed(self, event: SubscriptionsChanged) -> None:
        """Load the subscriptions of one project."""
        project_id = event.project_id
        async with self._learning:
            now = await self._feed_store.list_subscriptions(project_id)
            self._learn([s for s in self._known.values() if s.project_id == project_id], now)

    def _learn(self, before: Sequence[Subscription], now: Sequence[Subscription]) -> None:
        wanted = {s.id for s in now}
        for subscription in before:
            if subscription.id not in wanted:
                self._messages.unsubscribe(self._known.pop(subscription.id))
        for subscription in now:
            if subscription.id not in self._known:
                self._known[subscription.id] = subscription
                self._messages.subscribe(subscription)

    async def serve(self, connection: AbstractConnection) -> None:
        """Publish over a connection."""
        # Events were missed without a connection: ``publish`` waits for the ``load`` that follows.
        self._loaded.clear()
        self._channel = await connection.channel()
        try:
            await until_closed(self._channel)
        finally:
            self._channel = None

    async def prepare(self, shard: int, batch: Batch) -> ShardBatch:
        """Nothing can fail permanently later, since ``commit`` retries until it succeeds. The batch
        is not matched yet, so that storing does not wait for the subscriptions, which are in
        another database."""
        return ShardBatch(shard, batch)

    async def commit(self, prepared: ShardBatch) -> None:
        """Return once the subscribed measurements are safe in RabbitMQ, however long that takes."""

        async def publish() -> None:
            await self.publish(*prepared)

        await until_done(publish, f"the feed of shard {prepared.shard} waits")

    async def abort(self, prepared: ShardBatch) -> None:
        """Do nothing: nothing was published yet."""

    async def publish(self, shard: int, batch: Batch) -> None:
        """Try once; return when the subscribed measurements are safe in RabbitMQ. Raises
        UNAVAILABLE."""
        try:
            async with asyncio.timeout(LOAD_S):
                await self._loaded.wait()
        except TimeoutError as error:
            raise _unavailable("the subscriptions could not be read yet") from error
        wanted = await self._messages.select(batch)
        if not len(wanted):
            return
        body = _encoder.encode(await self._messages.render(wanted))
        channel = self._channel
        try:
            if channel is None:
                raise ConnectionError("there is no connection")
            await asyncio.wait_for(
                channel.basic_publish(
                    body,
                    exchange=FEED,
                    routing_key=str(shard),
                    properties=persistent(time.time_ns() // 1_000_000),
                ),
                CONFIRM_S,
            )
        except aiormq.DeliveryError as error:
            raise _unavailable("the feed's queue is full") from error
        except (aiormq.AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
            raise _unavailable(str(error) or "RabbitMQ did not confirm") from error


def _unavailable(reason: str) -> HeliometerError:
    return HeliometerError(Code.UNAVAILABLE, f"{reason}.")
