"""Idempotency keys of the last 24 hours, whichever process owned the shard then."""

import asyncio
from collections.abc import Callable

from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.ports import ReceiptStore
from heliometer.metrics.receipts import RECEIPT_LIFE_MS

MARGIN_MS = 7_200_000
"""How long after its arrival a request may have been stored. A receipt has the time of arrival, and
the previous owner may have lagged so far behind."""


class SharedReceipts(Receipts):
    """Receipts of all shards: a process that takes over a shard reads only those that are new to
    it."""

    def __init__(self, store: ReceiptStore, clock: Callable[[], float]) -> None:
        super().__init__(())
        self._store = store
        self._clock = clock
        self._read_ms = 0
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the receipts that others have stored since the last call. Raises UNAVAILABLE."""
        async with self._reading:
            now_ms = int(self._clock() * 1000)
            since_ms = max(now_ms - RECEIPT_LIFE_MS, self._read_ms - MARGIN_MS)
            for receipt in await self._store.load_receipts(since_ms):
                if receipt.ends_ms > now_ms:
                    self.remember(receipt)
            self._read_ms = now_ms
