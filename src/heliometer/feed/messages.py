"""Measurements as messages: the metrics JSON, scalar form (v1.1 §2.4)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Protocol

import msgspec
import numpy as np

from heliometer.feed.model import Subscription
from heliometer.feed.subscription_index import SubscriptionIndex
from heliometer.metrics.model import Batch, Series

HEADS = 100_000
"""The most series whose rendered heads are cached; beyond that the cache is cleared."""
AT_ONCE = 5000
"""The most messages rendered in the event loop; more would hold up other requests."""
MATCHED_AT_ONCE = 1000
"""How many series are matched before other tasks have a turn."""

_encode = msgspec.json.Encoder().encode


class Renderer:
    """Renders measurements; what only depends on the series is rendered once."""

    def __init__(self, series: Callable[[int], Series]) -> None:
        self._series = series
        self._heads: dict[int, bytes] = {}

    def render(
        self, series_ids: list[int], timestamps: list[int], values: list[float]
    ) -> list[bytes]:
        """One body a measurement. Timestamps in milliseconds; in the message they are seconds,
        whole where they can be."""
        heads = self._heads
        bodies = []
        for series_id, timestamp, value in zip(series_ids, timestamps, values, strict=True):
            head = heads.get(series_id)
            if head is None:
                head = self._head(series_id)
            seconds, rest = divmod(timestamp, 1000)
            at = repr(timestamp / 1000) if rest else str(seconds)
            bodies.append(head + f'{at},"value":{value!r}}}'.encode())
        return bodies

    def _head(self, series_id: int) -> bytes:
        if len(self._heads) >= HEADS:
            self._heads.clear()
        series = self._series(series_id)
        document = {"namespace": series.namespace, "dimensions": dict(series.dimensions)}
        head = self._heads[series_id] = _encode(document)[:-1] + b',"timestamp":'
        return head


class KnownSeries(Protocol):
    """The series that there are (``metrics.series_index.SeriesIndex``); ids rise as they appear."""

    @property
    def last_id(self) -> int: ...
    def __getitem__(self, series_id: int, /) -> Series: ...
    def after(self, last_id: int, limit: int) -> list[Series]: ...
    def select(
        self, project_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> Sequence[Series]: ...


class SubscribedMessages:
    """The messages that batches of measurements make for those who subscribed."""

    def __init__(self, series: KnownSeries) -> None:
        self._series = series
        self._subscriptions = SubscriptionIndex(series.select)
        self._renderer = Renderer(series.__getitem__)
        self._matched = 0
        """The last series that is matched with the subscriptions."""

    def subscribe(self, subscription: Subscription) -> None:
        """Have the measurements that match flow from now on."""
        if not len(self._subscriptions):
            # Nothing is to be matched anew: each that is added looks for its series by itself.
            self._matched = self._series.last_id
        self._subscriptions.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop those that no other subscription matches."""
        self._subscriptions.remove(subscription)

    async def select(self, batch: Batch) -> Batch:
        """The measurements that match a subscription."""
        await self._match_new()
        at = self._subscriptions.wanted(batch.series)
        return Batch(batch.series[at], batch.timestamp[at], batch.value[at])

    async def render(self, batch: Batch) -> list[tuple[str, list[bytes]]]:
        """Each project's messages in the order of the batch."""
        if len(batch) > AT_ONCE:
            return await asyncio.to_thread(self._by_project, batch)
        return self._by_project(batch)

    async def _match_new(self) -> None:
        """Match the series that appeared since the last call, from whatever source: those stored by
        a former owner of a shard are not announced."""
        while self._matched < self._series.last_id:
            if not len(self._subscriptions):
                return
            new = self._series.after(self._matched, MATCHED_AT_ONCE)
            self._matched = new[-1].id if new else self._series.last_id
            self._subscriptions.know(new)
            await asyncio.sleep(0)

    def _by_project(self, batch: Batch) -> list[tuple[str, list[bytes]]]:
        ids = batch.series.tolist()
        project = {i: self._series[i].project_id for i in set(ids)}
        order = np.arange(len(ids))
        if len(set(project.values())) > 1:
            names = [project[i] for i in ids]
            order = np.array(sorted(range(len(ids)), key=names.__getitem__), np.intp)
        messages: list[tuple[str, list[bytes]]] = []
        for project_id, group in groupby(order.tolist(), key=lambda at: project[ids[at]]):
            rows = np.fromiter(group, np.intp)
            bodies = self._renderer.render(
                batch.series[rows].tolist(),
                batch.timestamp[rows].tolist(),
                batch.value[rows].tolist(),
            )
            messages.append((project_id, bodies))
        return messages
