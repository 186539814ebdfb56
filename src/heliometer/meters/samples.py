"""Queries of samples, their statistics and their resources, as Telemetry v2 has them."""

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heliometer.config import LimitSettings
from heliometer.core.aside import aside
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Caller
from heliometer.meters.merging import merge
from heliometer.meters.model import Meter, resource_of
from heliometer.meters.sample_model import Comparison, Resource, Sample, Statistic, Wanted
from heliometer.meters.service import Meters
from heliometer.metrics.model import Aggregation, Batch
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex
from heliometer.metrics.validation import FUTURE_MS

DAY_MS = 86_400_000
RAW = ("count", "sum", "min", "max", "avg", "stddev", "first_ms", "last_ms")
RESOURCES = 2000
"""How many resources are looked at in one query at most."""
NEWEST = 100_000
"""The most samples in one answer."""


FEW = 1000
"""The samples of so many series are looked for in one step."""
SPANS_MS = (600_000, 7_200_000, DAY_MS)
"""Those of more are looked for in the newest of these spans, then in what is left of the next."""
NOTHING = Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
_STEP = 1000


class FoundSamples(Iterable[Sample]):
    """Samples that stay in arrays, which take a twentieth of the memory: each is made when it is
    its turn."""

    def __init__(self, batch: Batch, meter: Callable[[int], Meter]) -> None:
        self._batch = batch
        self._meter = meter

    def __len__(self) -> int:
        return len(self._batch)

    @property
    def held_bytes(self) -> int:
        """The memory that they take."""
        return 24 * len(self)

    def __iter__(self) -> Iterator[Sample]:
        columns = (self._batch.series, self._batch.timestamp, self._batch.value)
        for at in range(0, len(self), _STEP):
            part = (column[at : at + _STEP].tolist() for column in columns)
            for series, timestamp, value in zip(*part, strict=True):
                yield Sample(self._meter(series), timestamp, value)


class _Found(NamedTuple):
    """A resource, the ids of its series, and the times of its first and last sample."""

    id: str
    series: Sequence[int]
    first_ms: int
    last_ms: int


class FoundResources(Iterable[Resource]):
    """Resources, whose meters are made when it is their turn."""

    def __init__(self, found: Sequence[_Found], meter: Callable[[int], Meter]) -> None:
        self._found = found
        self._meter = meter

    def __len__(self) -> int:
        return len(self._found)

    @property
    def held_bytes(self) -> int:
        """The memory that they take."""
        return sum(256 + 8 * len(each.series) for each in self._found)

    def __iter__(self) -> Iterator[Resource]:
        for each in self._found:
            meters = tuple(map(self._meter, each.series))
            yield Resource(each.id, meters, each.first_ms, each.last_ms)


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

    async def newest(self, caller: Caller, wanted: Wanted, limit: int) -> "FoundSamples":
        """The selected samples, newest first."""
        ids = await self._select(caller, wanted)
        start, end = self._range(wanted)
        limit = min(limit, NEWEST)
        found: list[Batch] = []
        # Of many series, the newest measurements are looked for first where they are likely to be,
        # since a store reads the whole range to find those of the whole range.
        for span in SPANS_MS if len(ids) > FEW else ():
            since = max(start, end - span)
            if not start < since < end:
                continue
            found.append(await self._store.latest(ids, since, end, limit))
            limit -= len(found[-1])
            end = since
            if not limit:
                break
        if ids and limit and start < end:
            found.append(await self._store.latest(ids, start, end, limit))
        return FoundSamples(Batch.concatenate(found) if found else NOTHING, self._meter)

    def _meter(self, series_id: int) -> Meter:
        return self._meters.meter(self._series_index[series_id])

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

    async def resources(self, caller: Caller, wanted: Wanted, limit: int) -> "FoundResources":
        """Resources with samples, in the order of their first appearance."""
        selected = await self._select(caller, wanted)
        by_resource = await aside(len(selected), lambda: self._by_resource(selected))
        start, end = self._range(wanted)
        found: list[_Found] = []
        names = list(by_resource) if start < end else []
        at, step = 0, min(limit, RESOURCES)
        while at < len(names) and len(found) < limit:
            part = names[at : at + step]
            ids = [s for name in part for s in by_resource[name]]
            seen = await self._seen(ids, start, end)
            for name in part:
                times = [seen[s] for s in by_resource[name] if s in seen]
                if times:
                    first, last = min(t[0] for t in times), max(t[1] for t in times)
                    found.append(_Found(name, by_resource[name], first, last))
            at += step
            step = min(2 * step, RESOURCES)
        return FoundResources(found[:limit], self._meter)

    def _by_resource(self, ids: Sequence[int]) -> "dict[str, array[int]]":
        found: dict[str, array[int]] = {}
        for series_id in ids:
            resource_id = resource_of(self._series_index[series_id])
            if resource_id:
                found.setdefault(resource_id, array("q")).append(series_id)
        return found

    async def _seen(self, ids: Sequence[int], start: int, end: int) -> dict[int, tuple[int, int]]:
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

    async def _select(self, caller: Caller, wanted: Wanted) -> Sequence[int]:
        ids = await self._meters.select(caller, wanted.fields)
        if wanted.metadata:
            return await aside(len(ids), lambda: self._with_metadata(ids, wanted.metadata))
        return ids[:]  # it grows meanwhile

    def _with_metadata(self, ids: Sequence[int], wanted: Sequence[Comparison]) -> Sequence[int]:
        index = self._series_index
        return array(
            "q",
            (i for i in ids[:] if all(c.holds(dict(index[i].dimensions)) for c in wanted)),
        )

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
