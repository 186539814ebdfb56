"""Series, their measurements, and what is computed of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Dimensions = tuple[tuple[str, str], ...]
"""Key and value pairs, sorted by key."""


class Series(NamedTuple):
    """One stream of measurements: a project's namespace and the full set of its dimensions."""

    id: int
    project_id: str
    namespace: str
    dimensions: Dimensions


@dataclass(frozen=True, slots=True)
class Batch:
    """Measurements as three arrays of equal length."""

    series: Int64s
    timestamp: Int64s
    """Milliseconds since the epoch."""
    value: Float64s

    def __len__(self) -> int:
        return len(self.series)

    @staticmethod
    def concatenate(batches: Sequence["Batch"]) -> "Batch":
        """One batch with the rows of all, in their order."""
        if len(batches) == 1:
            return batches[0]
        return Batch(
            np.concatenate([b.series for b in batches]),
            np.concatenate([b.timestamp for b in batches]),
            np.concatenate([b.value for b in batches]),
        )


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Statistics of some series over [start, end), one number a period and statistic."""

    series: Sequence[int]
    start_ms: int
    end_ms: int
    period_ms: int
    statistics: Sequence[str]
    """Names of ``metrics.statistics.AGGREGATES``."""
    origin_ms: int | None = 0
    """Periods start at multiples of the period from this time, which is not after ``start_ms``.
    ``None``: from the first measurement found."""


@dataclass(frozen=True, slots=True)
class Datapoints:
    """The result of an aggregation: rows ordered by series, then period, without empty periods."""

    series: Int64s
    timestamp: Int64s
    """Start of the period, in milliseconds since the epoch."""
    columns: Mapping[str, NDArray[np.generic]]
    """An array of the same length for each requested statistic."""


NO_DATA = Datapoints(np.empty(0, np.int64), np.empty(0, np.int64), {})
"""The result where there is none."""
