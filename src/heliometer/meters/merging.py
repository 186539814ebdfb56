"""Statistics of several series together."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliometer.meters.sample_model import Statistic


def merge(
    columns: Mapping[str, NDArray[Any]],
    groups: Mapping[int, tuple[str, ...]],
    resources: Mapping[int, str],
    period_s: int | None,
) -> list[Statistic]:
    """The statistics of single series, merged for each period and group."""
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
        # The deviation within each series, and that of its mean from the common mean.
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
