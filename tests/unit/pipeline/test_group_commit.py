"""The group commit, when the task that commits is ended by force."""

import asyncio

import numpy as np
import pytest

from eventually import eventually_async
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_index import SeriesIndex
from local_pipeline import local_writer

ONE = Batch(np.array([1], np.int64), np.array([0], np.int64), np.array([1.0]))


class SlowStore:
    """Stores when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = asyncio.Event()

    async def append(
        self,
        batch: Batch,
        series: list[Series],
        receipts: list[Receipt],
        *,
        maybe_duplicate: bool = False,
    ) -> None:
        self.asked += 1
        await self.may.wait()


async def test_nobody_waits_for_a_commit_that_was_ended() -> None:
    store = SlowStore()
    writer = local_writer(store, SeriesIndex((), 10), limit=100)  # type: ignore[arg-type]
    first = asyncio.create_task(writer.write(ONE))
    await eventually_async(lambda: store.asked == 1)
    later = asyncio.create_task(writer.write(ONE))
    await asyncio.sleep(0)
    (commit,) = (task for task in asyncio.all_tasks() if task.get_name() == "group commit")
    commit.cancel()
    with pytest.raises(HeliometerError) as refused:
        await first
    assert refused.value.code is Code.UNAVAILABLE
    store.may.set()
    await later
    assert store.asked == 2
    await writer.drain()
    assert writer.pending == 0
