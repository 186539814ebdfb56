"""The owner's side of the feed: what is subscribed to goes to the feed role as messages."""

import asyncio
import time
from collections.abc import Sequence
from itertools import groupby

import aiormq
import msgspec
import numpy as np
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelInvalidStateError

from heliometer.cluster.connection import FEED, persistent, until_closed
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import SubscriptionsChanged
from heliometer.core.errors import Code, HeliometerError
from heliometer.feed.messages import Renderer
from heliometer.feed.model import Subscription
from heliometer.feed.ports import FeedStore
from heliometer.feed.subscription_index import Matching
from heliometer.metrics.model import Batch
from heliometer.metrics.series_index import SeriesIndex

CONFIRM_S = 10.0
LOAD_S = 5.0
"""How long to wait for the subscriptions before it is said that they are missing."""
AT_ONCE = 5000
"""Messages that are rendered in the event loop; more would hold up everybody else."""
MATCHED_AT_ONCE = 1000
"""Series that are matched before everybody else has a turn."""

_encoder = msgspec.msgpack.Encoder()


class FeedPublisher:
    """Matches what is stored with the subscriptions of all projects."""

    def __init__(
        self,
        feed_store: FeedStore,
        series_index: SeriesIndex,
        bus: EventBus,
    ) -> None:
        self._feed_store = feed_store
        self._series_index = series_index
        self._matching = Matching(series_index.select)
        self._renderer = Renderer(series_index.__getitem__)
        self._matched = 0
        """Number of the last series that is matched."""
        self._known: dict[str, Subscription] = {}
        self._loaded = asyncio.Event()
        """Set when ``_known`` has what was subscribed to before the connection was made."""
        self._channel: AbstractChannel | None = None
        self._learning = asyncio.Lock()
        """What was read last is learnt last."""
        bus.on(SubscriptionsChanged, self.subscriptions_changed)
        bus.on_connect(self.load)

    async def load(self) -> None:
        """Learn the subscriptions of all projects."""
        async with self._learning:
            now = await self._feed_store.load_subscriptions()
            self._learn(list(self._known.values()), now)
        self._loaded.set()

    async def subscriptions_changed(self, event: SubscriptionsChanged) -> None:
        project_id = event.project_id
        async with self._learning:
            now = await self._feed_store.list_subscriptions(project_id)
            self._learn([s for s in self._known.values() if s.project_id == project_id], now)

    def _learn(self, before: Sequence[Subscription], now: Sequence[Subscription]) -> None:
        wanted = {s.id for s in now}
        for subscription in before:
            if subscription.id not in wanted:
                self._matching.remove(self._known.pop(subscription.id))
        if not len(self._matching):
            # Nothing is to be matched anew: each that is added looks for its series by itself.
            self._matched = len(self._series_index)
        for subscription in now:
            if subscription.id not in self._known:
                self._known[subscription.id] = subscription
                self._matching.add(subscription)

    async def serve(self, connection: AbstractConnection) -> None:
        """Publish over a connection."""
        # Changes were missed without one: ``load`` follows, and until then ``pass_on`` waits.
        self._loaded.clear()
        self._channel = await connection.channel()
        try:
            await until_closed(self._channel)
        finally:
            self._channel = None

    async def pass_on(self, part: int, batch: Batch) -> None:
        """Return when what is subscribed to is safe in RabbitMQ. Raises UNAVAILABLE."""
        try:
            async with asyncio.timeout(LOAD_S):
                await self._loaded.wait()
        except TimeoutError as error:
            raise _unavailable("the subscriptions could not be read yet") from error
        await self._match_new()
        at = self._matching.wanted(batch.series)
        if not len(at):
            return
        wanted = Batch(batch.series[at], batch.timestamp[at], batch.value[at])
        if len(wanted) > AT_ONCE:
            body = await asyncio.to_thread(self._render, wanted)
        else:
            body = self._render(wanted)
        channel = self._channel
        try:
            if channel is None:
                raise ConnectionError("there is no connection")
            await asyncio.wait_for(
                channel.basic_publish(
                    body,
                    exchange=FEED,
                    routing_key=str(part),
                    properties=persistent(time.time_ns() // 1_000_000),
                ),
                CONFIRM_S,
            )
        except aiormq.DeliveryError as error:
            raise _unavailable("the feed's queue is full") from error
        except (aiormq.AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
            raise _unavailable(str(error) or "RabbitMQ did not confirm") from error

    async def _match_new(self) -> None:
        """Match the series that appeared since the last time, by whichever way: of those that a
        part's former owner stored, nobody tells us when it becomes ours."""
        while self._matched < len(self._series_index):
            last = min(self._matched + MATCHED_AT_ONCE, len(self._series_index))
            new = [self._series_index[i] for i in range(self._matched + 1, last + 1)]
            self._matched = last
            self._matching.know(new)
            await asyncio.sleep(0)

    def _render(self, batch: Batch) -> bytes:
        ids = batch.series.tolist()
        names = [self._series_index[i].project_id for i in ids]
        order = sorted(range(len(ids)), key=names.__getitem__)
        messages: list[tuple[str, list[bytes]]] = []
        for project_id, group in groupby(order, key=names.__getitem__):
            rows = np.fromiter(group, np.intp)
            bodies = self._renderer.render(
                batch.series[rows].tolist(),
                batch.timestamp[rows].tolist(),
                batch.value[rows].tolist(),
            )
            messages.append((project_id, list(bodies)))
        return _encoder.encode(messages)


def _unavailable(reason: str) -> HeliometerError:
    return HeliometerError(Code.UNAVAILABLE, f"{reason}.")
