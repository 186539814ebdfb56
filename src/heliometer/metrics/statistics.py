"""The statistics that a query may ask for (v1.1 §4.4.7.3)."""

from typing import NamedTuple


class Statistic(NamedTuple):
    """How the measurements of one period become one number.

    The name is also the SQL aggregate that every measurement store computes it with.
    """

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

AGGREGATES: dict[str, str] = {name: f"{name}(m.value)" for name in STATISTICS} | {
    "stddev": "stddev_pop(m.value)",
    "first_ms": "min(m.ts)",
    "last_ms": "max(m.ts)",
}
"""What a store can compute of the measurements of one series and period, and how it is said in
SQL: the statistics, and what Telemetry v2 wants besides."""
