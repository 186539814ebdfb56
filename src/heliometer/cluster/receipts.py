"""Idempotency keys of the last 24 hours, whichever process owned the shard at the time."""

import asyncio
from collections.abc import Callable

from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.ports import ReceiptStore
from heliometer.metrics.receipts import RECEIPT_LIFE_MS

MARGIN_MS = 7_200_000
"""How long after it was taken a request may have been stored: its receipt has the time when it was
taken, and the owner before may have been that far behind."""


class SharedReceipts(Receipts):
    """Receipts of all shards: a process that takes a shard over reads only what is new to it."""

    def __init__(self, store: ReceiptStore, clock: Callable[[], float]) -> None:
        super().__init__(())
        self._store = store
        self._clock = clock
        self._read_ms = 0
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Learn what others have taken since the last time. Raises UNAVAILABLE."""
        async with self._reading:
            now_ms = int(self._clock() * 1000)
            since_ms = max(now_ms - RECEIPT_LIFE_MS, self._read_ms - MARGIN_MS)
            for receipt in await self._store.load_receipts(since_ms):
                if receipt.ends_ms > now_ms:
                    self.remember(receipt)
            self._read_ms = now_ms
