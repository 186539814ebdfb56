"""Queries of statistics: what they ask for, what is allowed, and how the result is arranged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from heliometer.config import LimitSettings
from heliometer.core.errors import Malformed
from heliometer.metrics.model import Datapoints, Series
from heliometer.metrics.statistics import STATISTICS

MAX_PERIOD_S = 366 * 86_400


@dataclass(frozen=True, slots=True)
class SeriesStatistics:
    """The statistics of one series, in columns of equal length."""

    series: Series
    timestamps_s: list[int]
    statistics: Mapping[str, list[float] | list[int]]


@dataclass(frozen=True, slots=True)
class Query:
    """Statistics over [start, end) by period. Periods start at multiples since the epoch."""

    namespace: str
    dimensions: Mapping[str, str]
    statistics: Sequence[str]
    start_ms: int
    end_ms: int
    period_s: int
    most: int = 0
    """Only the first so many series, ordered by dimensions; 0: all."""


def check_query(query: Query) -> None:
    """Raise MALFORMED for a query that makes no sense."""
    for statistic in query.statistics:
        if statistic not in STATISTICS:
            raise Malformed(
                f"statistics: {statistic[:40]!r} is not a statistic.",
                details=f"Statistics are {', '.join(STATISTICS)}.",
            )
    if not query.statistics:
        raise Malformed(
            "statistics: at least one must be named.",
            details=f"Statistics are {', '.join(STATISTICS)}.",
        )
    if not 1 <= query.period_s <= MAX_PERIOD_S:
        raise Malformed(f"period: must be 1 to {MAX_PERIOD_S} seconds.")
    if query.start_ms >= query.end_ms:
        raise Malformed("start_time: must be before end_time.")


def check_size(
    query: Query, series: int, limits: LimitSettings, oldest_ms: int, newest_ms: int
) -> None:
    """Raise MALFORMED if the answer would be too large. There are measurements only between
    ``oldest_ms`` and ``newest_ms``."""
    if series > limits.series_per_query:
        raise Malformed(
            f"The query selects {series} series; one query may return {limits.series_per_query}.",
            details="Name more dimensions.",
        )
    # No measurement is older than retention or in the future, whatever range was asked for.
    start = max(query.start_ms, oldest_ms)
    end = min(query.end_ms, newest_ms)
    period = query.period_s * 1000
    periods = max(0, -(-end // period) - start // period)
    most = limits.datapoints_per_query
    if periods * series > most:
        details = "Ask for a shorter time or more dimensions."
        # A range that starts within a period touches one period more than fit into it.
        whole = most // series - 1
        if whole > 0:
            longer = -(-(end - start) // (whole * 1000))
            details = (
                "Ask for a shorter time, more dimensions, or a period of at least "
                f"{longer} seconds."
            )
        raise Malformed(
            f"The answer would have up to {periods * series} datapoints; one query may "
            f"return {most}.",
            details=details,
        )


class Statistics(Sequence[SeriesStatistics]):
    """The result of a query by series, in the order of ``series``; those without data are left out.

    It stays in arrays, which take a tenth of the memory: each item is made anew when asked for.
    """

    def __init__(
        self, found: Datapoints, series: Sequence[Series], statistics: Sequence[str]
    ) -> None:
        ids, starts = np.unique(found.series, return_index=True)
        ends = [*starts[1:].tolist(), len(found.series)]
        self._rows = dict(zip(ids.tolist(), map(slice, starts.tolist(), ends), strict=True))
        self._series = [each for each in series if each.id in self._rows]
        self._found = found
        self._statistics = statistics

    @property
    def held_bytes(self) -> int:
        """The memory that the result takes."""
        columns = [self._found.columns[name] for name in self._statistics]
        arrays = sum(a.nbytes for a in (self._found.series, self._found.timestamp, *columns))
        return arrays + 256 * len(self._series)

    def __len__(self) -> int:
        return len(self._series)

    @overload
    def __getitem__(self, at: int) -> SeriesStatistics: ...
    @overload
    def __getitem__(self, at: slice) -> list[SeriesStatistics]: ...
    def __getitem__(self, at: int | slice) -> SeriesStatistics | list[SeriesStatistics]:
        if isinstance(at, slice):
            return [self._made(each) for each in self._series[at]]
        return self._made(self._series[at])

    def _made(self, series: Series) -> SeriesStatistics:
        rows = self._rows[series.id]
        return SeriesStatistics(
            series,
            (self._found.timestamp[rows] // 1000).tolist(),
            {name: self._found.columns[name][rows].tolist() for name in self._statistics},
        )
