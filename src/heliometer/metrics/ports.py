"""What the service needs of the pipeline, and the pipeline tells of what it stored."""

from collections.abc import Callable, Sequence
from typing import Protocol

from heliometer.metrics.model import Batch, Receipt, Series

Committed = Callable[[int, float], None]
"""Told of each commit: measurements in it, and seconds that it took."""
Stored = Callable[[Batch, Sequence[Series]], None]
"""Given what each commit stored, in the order of the commits: measurements, and the series that
are new with them."""


class Writing(Protocol):
    """Brings measurements to where they are safe."""

    @property
    def pending(self) -> int:
        """Measurements that wait or are being stored."""
        ...

    async def write(self, batch: Batch, receipt: Receipt | None = None) -> None:
        """Return when the batch, and its receipt, are on stable storage. Raises UNAVAILABLE."""
        ...
