"""The store as the owner of a shard uses it: what was acknowledged to a poster is stored."""

from collections.abc import Sequence

from heliometer.cluster.retrying import until_done
from heliometer.cluster.stall_detector import StallDetector
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.ports import MeasurementWriter
from heliometer.metrics.receipts import Receipt


class RetryingStore:
    """Tries again until what it is given is stored."""

    def __init__(self, store: MeasurementWriter, shard: int, stalls: StallDetector) -> None:
        self._store = store
        self._shard = shard
        self._stalls = stalls

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,
    ) -> None:
        """Return when all of it is stored, once."""
        tried = maybe_duplicate

        async def append() -> None:
            nonlocal tried
            # A process that stood still may not be the owner any more, and not know it yet.
            before, tried = tried or self._stalls.is_doubtful, True
            await self._store.append(batch, series, receipts, maybe_duplicate=before)

        await until_done(append, f"measurements of shard {self._shard} wait")
