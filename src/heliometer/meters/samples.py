"""Queries of samples, their statistics and their resources, as Telemetry v2 has them."""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from heliometer.config import LimitSettings
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Caller
from heliometer.meters.merging import merge
from heliometer.meters.model import Meter, resource_of
from heliometer.meters.sample_model import Resource, Sample, Statistic, Wanted
from heliometer.meters.service import Meters
from heliometer.metrics.model import Aggregation, Series
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex
from heliometer.metrics.validation import FUTURE_MS

DAY_MS = 86_400_000
RAW = ("count", "sum", "min", "max", "avg", "stddev", "first_ms", "last_ms")
RESOURCES = 1000
"""How many resources are looked at in one query."""
NEWEST = 100_000
"""The most samples in one answer."""


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
        """The selected samples, newest first."""
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
        """The sample with this id. Raises NOT_FOUND."""
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

        Periods start at the requested start time, or else at the first sample.
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
        return merge(columns, groups, resources, period_s), unit

    async def resources(self, caller: Caller, wanted: Wanted, limit: int) -> list[Resource]:
        """Resources with samples, in the order of their first appearance."""
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
        """The first and the last time of each series."""
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


def _no_sample(sample_id: str) -> HeliometerError:
    return HeliometerError(Code.NOT_FOUND, f"Sample {sample_id[:80]} Not Found")
