"""The owner's side of the feed: what is subscribed to goes to the feed role as messages."""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import aiormq
import msgspec
import numpy as np
from aiormq.exceptions import ChannelInvalidStateError

from heliometer.cluster.broker import FEED, persistent, until_closed
from heliometer.cluster.changes import Changes
from heliometer.feed.matching import Matching, Select
from heliometer.feed.messages import Renderer
from heliometer.model.errors import Code, HeliometerError
from heliometer.model.feed import FeedStore, Subscription
from heliometer.model.measurements import Batch, Series

SUBSCRIPTIONS = "subscriptions"
"""Kind of the change that tells of a project whose subscriptions are others."""
CONFIRM_S = 10.0
AT_ONCE = 5000
"""Messages that are rendered in the event loop; more would hold up everybody else."""

_encoder = msgspec.msgpack.Encoder()


class PassOn:
    """Matches what is stored with the subscriptions of all projects."""

    def __init__(
        self,
        feed_store: FeedStore,
        series: Callable[[int], Series],
        select: Select,
        changes: Changes,
    ) -> None:
        self._feed_store = feed_store
        self._series = series
        self._matching = Matching(select)
        self._renderer = Renderer(series)
        self._known: dict[str, Subscription] = {}
        self._channel: Any = None
        self._learning = asyncio.Lock()
        """What was read last is learnt last."""
        changes.on(SUBSCRIPTIONS, self._changed)
        changes.on_connect(self.load)

    async def load(self) -> None:
        """Learn the subscriptions of all projects."""
        async with self._learning:
            now = await self._feed_store.load_subscriptions()
            self._learn(list(self._known.values()), now)

    async def _changed(self, project_id: Any) -> None:
        async with self._learning:
            now = await self._feed_store.list_subscriptions(project_id)
            self._learn([s for s in self._known.values() if s.project_id == project_id], now)

    def _learn(self, before: Sequence[Subscription], now: Sequence[Subscription]) -> None:
        wanted = {s.id for s in now}
        for subscription in before:
            if subscription.id not in wanted:
                self._matching.remove(self._known.pop(subscription.id))
        for subscription in now:
            if subscription.id not in self._known:
                self._known[subscription.id] = subscription
                self._matching.add(subscription)

    async def serve(self, connection: Any) -> None:
        """Publish over a connection."""
        self._channel = await connection.channel()
        try:
            await until_closed(self._channel)
        finally:
            self._channel = None

    async def pass_on(self, part: int, batch: Batch, series: Sequence[Series]) -> None:
        """Return when what is subscribed to is safe in RabbitMQ. Raises UNAVAILABLE."""
        self._matching.know(series)
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

    def _render(self, batch: Batch) -> bytes:
        ids = batch.series.tolist()
        names = [self._series(i).project_id for i in ids]
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
