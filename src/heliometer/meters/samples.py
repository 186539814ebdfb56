"""Samples, their statistics and the resources that they are of, as Telemetry v2 asks for them."""

import math
import operator
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heliometer.config import LimitSettings
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Caller
from heliometer.meters.model import resource_of
from heliometer.meters.service import Meter, Meters
from heliometer.metrics.model import Aggregation, Series
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex
from heliometer.metrics.validation import FUTURE_MS

DAY_MS = 86_400_000
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "gt": operator.gt,
}
RAW = ("count", "sum", "min", "max", "avg", "stddev", "first_ms", "last_ms")
RESOURCES = 1000
"""That are looked at in one query."""
NEWEST = 100_000
"""Samples in one answer at most."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A condition on one of the dimensions of a series."""

    key: str
    op: str
    value: str
    numeric: bool

    def holds(self, dimensions: Mapping[str, str]) -> bool:
        """Whether the series has the dimension, and it compares so."""
        given = dimensions.get(self.key)
        if given is None:
            return False
        if not self.numeric:
            return COMPARISONS[self.op](given, self.value)
        try:
            return COMPARISONS[self.op](float(given), float(self.value))
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which samples: of which series, and within [start, end)."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """``name`` and ``resource_id``."""
    metadata: Sequence[Comparison] = ()
    start_ms: int | None = None
    end_ms: int | None = None


class Sample(NamedTuple):
    """One measurement of a meter."""

    meter: Meter
    timestamp_ms: int
    value: float

    @property
    def id(self) -> str:
        """Names the measurement; two that are alike in everything share it."""
        value = struct.pack(">d", self.value).hex()
        return f"{self.meter.series.id:x}-{self.timestamp_ms:x}-{value}"


@dataclass(frozen=True, slots=True)
class Statistic:
    """Of the samples of one period and group."""

    group: tuple[str, ...]
    start_ms: int
    """Of the period; without periods the first sample's time."""
    end_ms: int
    first_ms: int
    last_ms: int
    count: int
    sum: float
    avg: float
    min: float
    max: float
    stddev: float
    """Of the population, as Ceilometer has it."""
    resources: frozenset[str]
    """That had samples."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What meters measure."""

    id: str
    meters: tuple[Meter, ...]
    first_ms: int
    last_ms: int


class Samples:
    """The samples of the caller's project."""

    def __init__(
        self,
        store: MeasurementReader,
        series_index: SeriesIndex,
        meters: Meters,
        limits: LimitSettings,
        retention_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._series_index = series_index
        self._meters = meters
        self._limits = limits
        self._kept_ms = (retention_days + 1) * DAY_MS
        self._clock = clock

    async def newest(self, caller: Caller, wanted: Wanted, limit: int) -> list[Sample]:
        """Samples, the newest first."""
        ids = await self._select(caller, wanted)
        start, end = self._range(wanted)
        if not ids or start >= end:
            return []
        batch = await self._store.latest(ids, start, end, min(limit, NEWEST))
        known = {i: self._meters.meter(self._series_index[i]) for i in set(batch.series.tolist())}
        return [
            Sample(known[series], timestamp, value)
            for series, timestamp, value in zip(
                batch.series.tolist(), batch.timestamp.tolist(), batch.value.tolist(), strict=True
            )
        ]

    async def get(self, caller: Caller, sample_id: str) -> Sample:
        """One sample. Raises NOT_FOUND."""
        parts = sample_id.split("-")
        try:
            series_id, timestamp = int(parts[0], 16), int(parts[1], 16)
            (value,) = struct.unpack(">d", bytes.fromhex(parts[2]))
            mine = await self._meters.select(caller, {})
            series = self._series_index[series_id]
        except (ValueError, IndexError, KeyError, struct.error) as error:
            raise _no_sample(sample_id) from error
        if series.project_id != caller.project_id or not mine or timestamp > 1 << 52:
            raise _no_sample(sample_id)
        batch = await self._store.read([series_id], timestamp, timestamp + 1)
        if value not in batch.value.tolist():
            raise _no_sample(sample_id)
        return Sample(self._meters.meter(series), timestamp, value)

    async def statistics(
        self,
        caller: Caller,
        wanted: Wanted,
        period_s: int | None,
        group_of: Callable[[Meter], tuple[str, ...]],
    ) -> tuple[list[Statistic], str]:
        """Statistics over all series of a meter together, by period and group, in that order; and
        the meter's unit.

        Periods begin at the start of the time that was asked for, or with the first sample.
        """
        ids = await self._select(caller, wanted)
        if not ids:
            return [], ""
        if len(ids) > self._limits.series_per_query:
            raise Malformed(
                f"The meter has {len(ids)} resources; statistics take up to "
                f"{self._limits.series_per_query}. Ask for some, with q.field=resource_id."
            )
        unit = self._meters.meter(self._series_index[ids[0]]).unit
        start, end = self._range(wanted)
        if start >= end:
            return [], unit
        origin = start if wanted.start_ms is not None or period_s is None else None
        period = (end - start) if period_s is None else period_s * 1000
        if -(-(end - start) // period) * len(ids) > self._limits.datapoints_per_query:
            raise Malformed("The answer would be too large. Ask for a longer period.")
        columns = await self._aggregate(ids, start, end, period, origin, RAW)
        groups = {i: group_of(self._meters.meter(self._series_index[i])) for i in ids}
        resources = {i: resource_of(self._series_index[i]) for i in ids}
        return _merged(columns, groups, resources, period_s), unit

    async def resources(self, caller: Caller, wanted: Wanted, limit: int) -> list[Resource]:
        """Resources with samples, in the order in which they appeared."""
        by_resource: dict[str, list[Series]] = {}
        for series_id in await self._select(caller, wanted):
            series = self._series_index[series_id]
            if resource_of(series):
                by_resource.setdefault(resource_of(series), []).append(series)
        start, end = self._range(wanted)
        found: list[Resource] = []
        names = list(by_resource)
        step = max(limit, RESOURCES)
        for at in range(0, len(names), step):
            part = names[at : at + step]
            if start < end:
                ids = [s.id for name in part for s in by_resource[name]]
                seen = await self._seen(ids, start, end)
                found += [
                    Resource(
                        name,
                        tuple(self._meters.meter(s) for s in by_resource[name]),
                        min(times[0] for times in at_times),
                        max(times[1] for times in at_times),
                    )
                    for name in part
                    if (at_times := [seen[s.id] for s in by_resource[name] if s.id in seen])
                ]
            if len(found) >= limit:
                break
        return found[:limit]

    async def _seen(self, ids: list[int], start: int, end: int) -> dict[int, tuple[int, int]]:
        """First and last time of each series."""
        columns = await self._aggregate(
            ids, start, end, end - start, start, ("first_ms", "last_ms")
        )
        return {
            series: (first, last)
            for series, first, last in zip(
                columns["series"].tolist(),
                columns["first_ms"].tolist(),
                columns["last_ms"].tolist(),
                strict=True,
            )
        }

    async def _aggregate(
        self,
        ids: Sequence[int],
        start: int,
        end: int,
        period: int,
        origin: int | None,
        statistics: Sequence[str],
    ) -> dict[str, NDArray[Any]]:
        found = await self._store.aggregate(
            Aggregation(ids, start, end, period, statistics, origin)
        )
        return {"series": found.series, "period": found.timestamp, **found.columns}

    async def _select(self, caller: Caller, wanted: Wanted) -> list[int]:
        ids: Iterable[int] = await self._meters.select(caller, wanted.fields)
        if wanted.metadata:
            ids = (
                i
                for i in ids
                if all(c.holds(dict(self._series_index[i].dimensions)) for c in wanted.metadata)
            )
        return list(ids)

    def _range(self, wanted: Wanted) -> tuple[int, int]:
        now = int(self._clock() * 1000)
        start, end = now - self._kept_ms, now + FUTURE_MS + 1
        if wanted.start_ms is not None:
            start = max(start, wanted.start_ms)
        if wanted.end_ms is not None:
            end = min(end, wanted.end_ms)
        return start, end


def _merged(
    columns: Mapping[str, NDArray[Any]],
    groups: Mapping[int, tuple[str, ...]],
    resources: Mapping[int, str],
    period_s: int | None,
) -> list[Statistic]:
    """What single series gave, over all series of a period and group."""
    rows: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    series = columns["series"].tolist()
    for row, (series_id, period) in enumerate(zip(series, columns["period"].tolist(), strict=True)):
        rows.setdefault((period, groups[series_id]), []).append(row)
    found = []
    for (period, group), at in sorted(rows.items()):
        counts = columns["count"][at].astype(np.float64)
        total = float(columns["sum"][at].sum())
        count = int(counts.sum())
        mean = total / count
        # Each series' own deviation, and that of its mean from the mean of all.
        squares = counts * (columns["stddev"][at] ** 2 + (columns["avg"][at] - mean) ** 2)
        first, last = int(columns["first_ms"][at].min()), int(columns["last_ms"][at].max())
        found.append(
            Statistic(
                group,
                first if period_s is None else period,
                last if period_s is None else period + period_s * 1000,
                first,
                last,
                count,
                total,
                mean,
                float(columns["min"][at].min()),
                float(columns["max"][at].max()),
                math.sqrt(max(0.0, float(squares.sum()) / count)),
                frozenset(resources[series[row]] for row in at),
            )
        )
    return found


def _no_sample(sample_id: str) -> HeliometerError:
    return HeliometerError(Code.NOT_FOUND, f"Sample {sample_id[:80]} Not Found")
