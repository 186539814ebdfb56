"""The store as a shard's owner uses it: whatever was acknowledged to a client gets stored."""

from collections.abc import Sequence

from heliometer.cluster.retrying import until_done
from heliometer.cluster.stall_detector import StallDetector
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.ports import MeasurementWriter
from heliometer.metrics.receipts import Receipt


class RetryingStore:
    """Retries until the measurements are stored."""

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
        """Return when everything is stored, exactly once."""
        tried = maybe_duplicate

        async def append() -> None:
            nonlocal tried
            # After a stall, this process may have lost the shard without knowing it yet.
            before, tried = tried or self._stalls.is_doubtful, True
            await self._store.append(batch, series, receipts, maybe_duplicate=before)

        await until_done(append, f"measurements of shard {self._shard} wait")
