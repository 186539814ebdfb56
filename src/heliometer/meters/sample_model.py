"""Samples, their statistics and their resources."""

import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from heliometer.meters.model import Meter

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "gt": operator.gt,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A condition on one of the dimensions of a series."""

    key: str
    op: str
    value: str
    numeric: bool

    def holds(self, dimensions: Mapping[str, str]) -> bool:
        """Whether the series has the dimension and it meets the condition."""
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
    """A selection of samples: of some series, within [start, end)."""

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
        """The id of the measurement, which equal measurements share."""
        value = struct.pack(">d", self.value).hex()
        return f"{self.meter.series.id:x}-{self.timestamp_ms:x}-{value}"


@dataclass(frozen=True, slots=True)
class Statistic:
    """Statistics of the samples of one period and group."""

    group: tuple[str, ...]
    start_ms: int
    """Start of the period; without periods, the time of the first sample."""
    end_ms: int
    first_ms: int
    last_ms: int
    count: int
    sum: float
    avg: float
    min: float
    max: float
    stddev: float
    """Of the population, as in Ceilometer."""
    resources: frozenset[str]
    """The resources that have samples."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that meters measure, with samples between two times."""

    id: str
    meters: tuple[Meter, ...]
    first_ms: int
    last_ms: int
