"""Series and their measurements: the names and ranges that are allowed, and the store's port."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from heliometer.core.errors import Code, HeliometerError, Invalid

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Dimensions = tuple[tuple[str, str], ...]
"""Key and value pairs, sorted by key."""

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""Namespaces and dimension keys (v1.1 §2.4)."""
NAMESPACE_LENGTH = 64
KEY_LENGTH = 50
VALUE_LENGTH = 300
RESERVED_PREFIX = "hpcs."

PAST_MS = 14 * 86_400_000
FUTURE_MS = 120_000
"""How far from now a timestamp may lie, in milliseconds (v1.1 §4.4.7.1)."""
SMALLEST = 8.515920e-109
LARGEST = 1.174271e108
"""The magnitudes that a value other than zero may have (v1.1 §4.4.7.1), either sign."""


class Series(NamedTuple):
    """One stream of measurements: a project's namespace and the full set of its dimensions."""

    id: int
    project_id: str
    namespace: str
    dimensions: Dimensions


@dataclass(frozen=True, slots=True)
class Batch:
    """Measurements as three arrays of one length: columnar from the moment they are decoded."""

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


RECEIPT_LIFE_MS = 86_400_000
"""How long a receipt is remembered, in milliseconds."""
PUSH_PREFIX = "\x01push "
"""Begins the keys of requests that programs push, which repeat a request at once or never. No
client can send such a key."""
PUSH_LIFE_MS = 900_000
MESSAGE_PREFIX = "\x02"
"""Begins the keys of what one process handed over to another: only ``append`` ever asks for them,
when it is told that it may have stored the same before."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Remembers that a request was taken, so that its retry is answered and not stored again."""

    project_id: str
    key: str
    fingerprint: bytes
    """Digest of the request's body: a key belongs to one body."""
    at_ms: int

    @property
    def ends_ms(self) -> int:
        """When it may be forgotten."""
        is_push = self.key.startswith(PUSH_PREFIX)
        return self.at_ms + (PUSH_LIFE_MS if is_push else RECEIPT_LIFE_MS)


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Statistics of some series over [start, end), one number a period and statistic."""

    series: Sequence[int]
    start_ms: int
    end_ms: int
    period_ms: int
    statistics: Sequence[str]
    """Names in ``model.statistics.AGGREGATES``."""
    origin_ms: int | None = 0
    """Periods begin at multiples of the period from here; not later than ``start_ms``. ``None``:
    from the first measurement that is found."""


@dataclass(frozen=True, slots=True)
class Datapoints:
    """The answer to an aggregation: rows by series, then period. Empty periods are absent."""

    series: Int64s
    timestamp: Int64s
    """Start of the period in milliseconds; a multiple of the period since the origin."""
    columns: Mapping[str, NDArray[np.generic]]
    """For each statistic that was asked for, an array of the same length."""


class MeasurementStore(Protocol):
    """Keeps measurements. What ``append`` returned from is on stable storage."""

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        again: bool = False,
    ) -> None:
        """Store the measurements, the series new to the store and the receipts: all or nothing.

        Raises UNAVAILABLE when it cannot. An embedded store has stored nothing then; of a remote
        one it may be unknown. ``again`` with at least one receipt: the same batch was handed over
        before, alone or with others, and what became of it is not known; what is stored already
        is left out.
        """
        ...

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        """Compute statistics over what is stored, readable from the moment ``append`` returned."""
        ...

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        """The stored measurements of [start, end), sorted by series, then timestamp."""
        ...

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        """The newest ``limit`` measurements of [start, end), newest first, then by series."""
        ...

    async def load_series(self) -> list[Series]:
        """Every series that the store knows."""
        ...

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        """The receipts of requests taken since then, but for those of ``MESSAGE_PREFIX``."""
        ...

    async def delete_before(self, timestamp_ms: int) -> None:
        """Retention: forget whole partitions that end at or before then."""
        ...

    async def ping(self) -> None:
        """Read and write for real; raise when that fails."""
        ...


def check_namespace(namespace: str, path: str = "namespace") -> None:
    """Raise INVALID unless ``namespace`` is a legal name (v1.1 §2.4)."""
    _check_name(namespace, NAMESPACE_LENGTH, path, "a namespace")


def check_dimension(key: str, value: str, path: str = "dimensions") -> None:
    """Raise INVALID unless the pair is legal (v1.1 §2.4; values may be any printable text)."""
    _check_name(key, KEY_LENGTH, f"{path}.{_shown(key)}", "a dimension key")
    if not 1 <= len(value) <= VALUE_LENGTH:
        raise Invalid(
            f"{path}.{key}: a dimension value must have 1 to {VALUE_LENGTH} characters, "
            f"not {len(value)}."
        )
    if not value.isprintable():
        raise Invalid(
            f"{path}.{key}: a dimension value may only have printable characters; "
            f"character {next(i for i, c in enumerate(value, 1) if not c.isprintable())} is not."
        )


def check_not_reserved(namespace: str, path: str = "namespace") -> None:
    """Raise CONFLICT for a namespace that only agents may post to (v1.1 §2.3.1)."""
    if namespace.startswith(RESERVED_PREFIX):
        raise HeliometerError(
            Code.CONFLICT,
            f"{path}: {_shown(namespace)} is reserved: namespaces that start with "
            f"{RESERVED_PREFIX} hold what the service itself captures.",
            details="Choose another namespace, or post with a user that has the agent role.",
        )


def check_timestamp(timestamp_ms: int, now_ms: int, path: str = "timestamp") -> None:
    """Raise INVALID unless the timestamp lies from two weeks past to two minutes future."""
    if not now_ms - PAST_MS <= timestamp_ms <= now_ms + FUTURE_MS:
        raise Invalid(
            f"{path}: {timestamp_ms / 1000:.15g} is not within two weeks past and two minutes "
            f"future of now ({now_ms / 1000:.15g}).",
            details="Timestamps are Unix time in seconds.",
        )


def check_value(value: float, path: str = "value") -> None:
    """Raise INVALID unless the value is zero or its magnitude lies in the documented range."""
    if value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        raise Invalid(
            f"{path}: {value!r} is out of range: a value must be zero, or between {SMALLEST:e} "
            f"and {LARGEST:e} in magnitude."
        )


def _check_name(name: str, length: int, path: str, what: str) -> None:
    if not 1 <= len(name) <= length:
        raise Invalid(f"{path}: {what} must have 1 to {length} characters, not {len(name)}.")
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{path}: {_shown(name)} is not {what}: only a-z A-Z 0-9 . - _ are allowed.",
        )


def _shown(name: str) -> str:
    """A name as it may stand in a message: short, on one line, encodable."""
    text = ascii(name) if not name.isprintable() else name
    return text if len(text) <= KEY_LENGTH else text[:KEY_LENGTH] + "…"
