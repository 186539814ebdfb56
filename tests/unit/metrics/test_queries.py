"""Queries: what is too large an answer, and whether the advice then given helps."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from heliometer.config import LimitSettings
from heliometer.core.errors import Malformed
from heliometer.identity.model import ROLES, Caller
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.queries import Query
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_index import SeriesIndex
from heliometer.metrics.service import Metrics
from heliometer.projects.model import Found
from local_pipeline import local_writer

NOW = 1_795_000_000
CALLER = Caller("u", "user", "p", "project", ROLES["member"])


class EmptyStore:
    """Holds nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Aggregation] = []

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,
    ) -> None: ...

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        self.asked.append(aggregation)
        none = np.empty(0, np.int64)
        return Datapoints(none, none, dict.fromkeys(aggregation.statistics, none))

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        raise NotImplementedError

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        raise NotImplementedError

    async def load_series(self) -> list[Series]:
        return []

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        return []

    async def delete_before(self, timestamp_ms: int) -> None: ...

    async def ping(self) -> None: ...


class Projects:
    """Every project exists."""

    async def project_exists(self, project_id: str) -> bool:
        return True

    async def resolve(self, references: Sequence[str]) -> Mapping[str, Found]:
        return {name: Found(name, "basic") for name in references}

    async def levels(self) -> Mapping[str, str]:
        return {}

    async def monitoring_level(self, project_id: str) -> str:
        return "basic"

    async def set_monitoring_level(self, project_id: str, level: str, by: str) -> None: ...


def metrics_over(series: int, limits: LimitSettings, store: EmptyStore | None = None) -> Metrics:
    known = [Series(i, "p", "ns", (("n", str(i)),)) for i in range(series)]
    series_index = SeriesIndex(known, limit=10**6)
    store = store or EmptyStore()
    writer = local_writer(store, series_index, limit=1000)
    return Metrics(store, series_index, writer, Receipts([]), Projects(), limits, 45, lambda: NOW)


def query(start_ms: int, end_ms: int, period_s: int) -> Query:
    return Query("ns", {}, ["avg"], start_ms, end_ms, period_s)


@settings(max_examples=effort(100, 6000), deadline=None, derandomize=True)
@given(
    series=st.integers(1, 40),
    limit=st.integers(1, 400),
    start=st.integers(1, 45 * 86_400_000),
    length=st.integers(1, 45 * 86_400_000),
    period=st.integers(1, 100_000),
)
async def test_what_a_refusal_advises_is_answered_and_no_answer_exceeds_the_limit(
    series: int, limit: int, start: int, length: int, period: int
) -> None:
    store = EmptyStore()
    metrics = metrics_over(series, LimitSettings(datapoints_per_query=limit), store)
    begin = NOW * 1000 - start
    end = min(begin + length, NOW * 1000)
    try:
        await metrics.query(CALLER, query(begin, end, period))
    except Malformed as refused:
        advised = re.search(r"a period of at least (\d+) seconds", refused.details)
        if advised is None:
            assert series > limit / 2, "a longer period would have helped"
            return
        assert int(advised[1]) > period
        period = int(advised[1])
        await metrics.query(CALLER, query(begin, end, period))
    (asked,) = store.asked
    periods = (asked.end_ms - 1) // asked.period_ms - asked.start_ms // asked.period_ms + 1
    assert periods * len(asked.series) <= limit


async def test_a_long_range_counts_only_as_far_as_measurements_can_lie() -> None:
    metrics = metrics_over(1, LimitSettings(datapoints_per_query=50))
    await metrics.query(CALLER, query(0, 4_000_000_000_000, 86_400))
    with pytest.raises(Malformed, match="up to 93 datapoints; one query may return 50"):
        await metrics.query(CALLER, query(0, 4_000_000_000_000, 43_200))


async def test_more_series_than_allowed_are_refused() -> None:
    metrics = metrics_over(3, LimitSettings(series_per_query=2))
    with pytest.raises(Malformed, match="selects 3 series; one query may return 2"):
        await metrics.query(CALLER, query(0, 1000, 1))
