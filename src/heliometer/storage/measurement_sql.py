"""SQL that both DuckDB and ClickHouse understand. No number in it comes from a request."""

from collections.abc import Mapping, Sequence

from heliometer.metrics.statistics import STATISTICS

AGGREGATES: Mapping[str, str] = {name: f"{name}(m.value)" for name in STATISTICS} | {
    "stddev": "stddev_pop(m.value)",
    "first_ms": "min(m.ts)",
    "last_ms": "max(m.ts)",
}
"""The SQL that computes ``metrics.statistics.AGGREGATES`` from a table ``m``."""


def matching(series: Sequence[int], start_ms: int, end_ms: int, listed: str = "") -> str:
    """The condition for measurements of some series, at least one, in [start, end). ``listed``:
    what to write in place of their ids, if those are known to the query otherwise."""
    low, high = min(series), max(series)
    # The range lets a store skip most of its data, and suffices if the ids have no gap.
    condition = f"series BETWEEN {low} AND {high} AND ts >= {start_ms} AND ts < {end_ms}"
    if high - low + 1 != len(set(series)):
        condition += f" AND series IN ({listed or ', '.join(map(str, series))})"
    return condition
