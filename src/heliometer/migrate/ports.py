"""What a migration reads and writes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.receipts import Receipt
from heliometer.migrate.digests import Digests


class Day(NamedTuple):
    """The measurements of one UTC day, counted from 1970."""

    day: int
    rows: int
    content: str
    """A digest that differs once measurements were added, and may differ once they were sealed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of series ids whose measurements of a day are read together."""

    day: int
    first: int
    last: int


class MeasurementSource(Protocol):
    """A snapshot of measurements. It blocks; one thread at a time may use it."""

    @property
    def damaged(self) -> list[str]:
        """Partitions that are left out, a sentence each; more may be found by reading."""
        ...

    def days(self) -> list[Day]: ...
    def series(self) -> list[Series]: ...
    def receipts(self, since_ms: int) -> list[Receipt]: ...
    def counts(self, day: int) -> tuple[Int64s, Int64s]:
        """The series that have measurements on a day, by id, and how many each has."""
        ...

    def read(self, piece: Piece) -> Batch:
        """The measurements of a piece, ordered by series and time."""
        ...


class MeasurementTarget(Protocol):
    """Where measurements go. Every method raises UNAVAILABLE."""

    async def settle(self) -> None:
        """Return when nothing that was sent before is still being stored."""
        ...

    async def days(self) -> dict[int, int]:
        """How many measurements each day has."""
        ...

    async def digests(self, day: int) -> Digests: ...
    async def read(self, series: Sequence[int], day: int) -> Batch: ...
    async def append(self, batch: Batch, receipt: Receipt, *, maybe_duplicate: bool) -> None: ...


class CatalogTarget(Protocol):
    """Where series and receipts go. Every method raises UNAVAILABLE."""

    async def load_series(self) -> list[Series]: ...
    async def add_series(self, series: Sequence[Series]) -> None: ...
    async def load_receipts(self, since_ms: int) -> list[Receipt]: ...
    async def add_receipts(self, receipts: Sequence[Receipt]) -> None: ...


class Target(MeasurementTarget, CatalogTarget, Protocol):
    """Everything that measurements need of the other side."""


class Content(NamedTuple):
    """What a table has. Two with equal contents have the same rows."""

    rows: int
    digest: str


Contents = Mapping[str, Content]
"""The content of each table, by table name."""


class ResourceCopy(Protocol):
    """The tables of resources, on both sides. Every method raises UNAVAILABLE."""

    async def source_contents(self) -> Contents:
        """What each table has once it has been copied."""
        ...

    async def target_contents(self) -> Contents: ...

    async def replace(
        self, may_replace: Callable[[Contents], None], copied: Callable[[int], None]
    ) -> None:
        """Copy all tables to the target, or change nothing. ``may_replace`` is called with the
        target's content, and raises if that must stay; ``copied`` is called with the number of rows
        as they are copied. Raises INVALID when the target refuses a row."""
        ...
