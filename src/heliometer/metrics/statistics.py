"""The statistics that a query may ask for (v1.1 §4.4.7.3)."""

from typing import NamedTuple


class Statistic(NamedTuple):
    """How the measurements of one period become one number."""

    name: str
    integer: bool = False


STATISTICS: dict[str, Statistic] = {
    s.name: s
    for s in (
        Statistic("avg"),
        Statistic("sum"),
        Statistic("min"),
        Statistic("max"),
        Statistic("count", integer=True),
    )
}

AGGREGATES: tuple[str, ...] = (*STATISTICS, "stddev", "first_ms", "last_ms")
"""What a store computes of the measurements of one series and period: the statistics, and for
Telemetry v2 the population's standard deviation and the times of the first and the last."""
