"""The hand-over of measurements, when the task that hands over is ended by force."""

import asyncio
from typing import Any

import numpy as np
import pytest

from eventually import eventually_async
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.publisher import FLIGHTS, Publisher
from heliometer.config import BusSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch
from heliometer.metrics.series_ids import SeriesIds
from heliometer.metrics.series_index import Name, SeriesIndex


class Broker:
    """A connection and its only channel, which confirms when it may."""

    def __init__(self) -> None:
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.published = 0
        self.may = asyncio.Event()

    async def channel(self) -> "Broker":
        return self

    async def basic_publish(self, body: bytes, **_: Any) -> None:
        self.published += 1
        await self.may.wait()


async def test_nobody_waits_for_a_hand_over_that_was_ended() -> None:
    ids = SeriesIds(1)
    series_index = SeriesIndex([], 1000, ids)
    (series,) = series_index.intern("a" * 32, [Name("ns", ())]).values()
    batch = Batch(np.array([series]), np.array([0], np.int64), np.array([1.0]))
    publisher = Publisher(
        series_index, ids, EventBus("me"), BusSettings(partitions=1, settle_ms=0),
        limit=1000, clock=lambda: 1e9,
    )  # fmt: skip
    broker: Any = Broker()
    serving = asyncio.create_task(publisher.serve(broker))
    await publisher.open.wait()
    for ended in range(1, FLIGHTS + 2):  # none of them keeps its place
        post = asyncio.create_task(publisher.write(batch))
        await eventually_async(lambda ended=ended: broker.published == ended)  # type: ignore[misc]
        (task,) = (t for t in asyncio.all_tasks() if t.get_name() == "hand over")
        task.cancel()
        with pytest.raises(HeliometerError) as refused:
            await post
        assert refused.value.code is Code.UNAVAILABLE
    broker.may.set()
    await publisher.write(batch)
    await publisher.drain()
    assert publisher.pending == 0
    serving.cancel()
