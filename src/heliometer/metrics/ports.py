"""What metrics need of a store of measurements and of the pipeline."""

from collections.abc import Callable, Sequence
from typing import Protocol

from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import Receipt


class MeasurementWriter(Protocol):
    """Stores measurements, the series that are new with them, and receipts."""

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,
    ) -> None:
        """Put all of it, or nothing, on stable storage; it is readable as soon as this returns.

        Raises UNAVAILABLE when that fails. An embedded store has stored nothing then; whether a
        remote one has is unknown. ``maybe_duplicate``, with at least one receipt: the batch was
        handed over before, alone or with others, with unknown result; what is stored already is
        left out.
        """
        ...


class MeasurementReader(Protocol):
    """Reads stored measurements, raw or aggregated. Ranges are half-open: [start, end)."""

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        """Compute statistics by series and period."""
        ...

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        """All measurements, sorted by series, then timestamp."""
        ...

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        """The newest ``limit`` measurements, newest first, then by series."""
        ...


class SeriesStore(Protocol):
    """Knows the names of all stored series."""

    async def load_series(self) -> list[Series]:
        """All series, sorted by id."""
        ...


class ReceiptStore(Protocol):
    """Remembers which requests were stored."""

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        """The receipts taken since then, except those of kind HANDOVER."""
        ...


class MeasurementStore(MeasurementWriter, MeasurementReader, SeriesStore, ReceiptStore, Protocol):
    """The whole store, as the wiring and the upkeep see it."""

    async def delete_before(self, timestamp_ms: int) -> None:
        """Retention: drop the partitions that end at or before this time."""
        ...

    async def ping(self) -> None:
        """Read and write for real; raise when that fails."""
        ...


Committed = Callable[[int, float], None]
"""Called after each commit with its number of measurements and its duration in seconds."""
Stored = Callable[[Batch, Sequence[Series]], None]
"""Given what each commit stored, in the order of the commits: measurements, and the series that
are new with them."""


class MeasurementTransport(Protocol):
    """Brings measurements to the shards of their projects."""

    @property
    def pending(self) -> int:
        """Measurements that wait or are being stored."""
        ...

    async def write(self, batch: Batch, receipt: Receipt | None = None) -> None:
        """Return when the batch, and its receipt, are on stable storage. Raises UNAVAILABLE."""
        ...
