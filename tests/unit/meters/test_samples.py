"""How much a query of samples asks its store for."""

import asyncio
import itertools
from collections.abc import Sequence
from unittest.mock import AsyncMock, Mock

import numpy as np

from heliometer.config import LimitSettings
from heliometer.identity.model import Caller, Permission
from heliometer.meters.sample_model import Wanted
from heliometer.meters.samples import Samples
from heliometer.meters.service import Meters
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.series_index import SeriesIndex
from heliometer.storage.duckdb import sql
from heliometer.storage.duckdb.sources import Sources, Table

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
PROJECT = "0" * 32


class Store:
    """A store with some measurements of series 1, that remembers what it was asked for."""

    def __init__(self, *timestamps: int) -> None:
        self._timestamps = np.array(sorted(timestamps, reverse=True), np.int64)
        self.asked: list[tuple[int, int, int]] = []

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        self.asked.append((start_ms, end_ms, limit))
        stamps = self._timestamps
        stamps = stamps[(stamps >= start_ms) & (stamps < end_ms)][:limit]
        return Batch(np.ones(len(stamps), np.int64), stamps, stamps.astype(float))


def newest(store: Store, number_of_series: int, limit: int) -> list[int]:
    series = [
        Series(n, PROJECT, "n", (("metric_name", f"m{n}"),)) for n in range(1, number_of_series + 1)
    ]
    index = SeriesIndex(series, number_of_series)
    limits = LimitSettings()
    meters = Meters(
        Mock(list_meters=AsyncMock(return_value=[])),
        index,
        Mock(),
        Mock(),
        limits,
        lambda: NOW_MS / 1000,
        Mock(any=False),
    )
    samples = Samples(store, index, meters, limits, 30, lambda: NOW_MS / 1000)  # type: ignore[arg-type]
    caller = Caller("u", "user", PROJECT, "project", frozenset({Permission.READ}))
    found = asyncio.run(samples.newest(caller, Wanted(), limit))
    return [sample.timestamp_ms for sample in found]


def test_few_samples_of_many_series_are_looked_for_in_the_newest_span() -> None:
    stamps = [NOW_MS - n * 1000 for n in range(50)]
    store = Store(*stamps)
    assert newest(store, 2000, 10) == stamps[:10]
    ((start, end, limit),) = store.asked
    assert end - start < HOUR_MS
    assert limit == 10


def test_older_ones_are_found_as_well_each_once() -> None:
    stamps = [NOW_MS - n * HOUR_MS for n in range(500)]
    store = Store(*stamps)
    assert newest(store, 2000, 400) == stamps[:400]
    spans = [(start, end) for start, end, _ in store.asked]
    assert all(later == end for (later, _), (_, end) in itertools.pairwise(spans))


def test_few_series_are_asked_for_at_once() -> None:
    store = Store(NOW_MS)
    assert newest(store, 3, 10) == [NOW_MS]
    assert len(store.asked) == 1


def test_ids_of_many_series_are_not_in_the_text_of_a_query() -> None:
    sources = Sources((Table(0, 1),))
    text = sql.latest(range(0, 200_000, 2), 0, 1, 5, sources, str)
    assert len(text) < 10_000
