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
