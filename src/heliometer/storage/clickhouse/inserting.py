"""Inserts, each stored once even if its result is lost."""

import asyncio
import time
import uuid

import numpy as np

from heliometer.metrics.model import Batch
from heliometer.metrics.receipts import Receipt
from heliometer.storage.clickhouse import blocks, sql
from heliometer.storage.clickhouse.session import Session, unavailable
from heliometer.storage.clickhouse.sql import DAY_MS

INSERT_S = 60.0
"""The longest that an insert may take, in seconds; after that its result is unknown."""
SETTLE_S = 0.25
"""Seconds between two checks for running inserts: an insert that was connected before the first
check is running by the second."""


class Inserter:
    """Inserts into the tables of a session's database."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._prefix = f"heliometer-{session.address.database}-insert-"

    async def without_stored(self, batch: Batch, receipt: Receipt) -> Batch:
        """The rows of a batch that are not stored yet: those of days that lack the receipt's
        marker. To be called once no earlier insert is running."""
        slots = self._session.server.slots
        marker = blocks.marker(receipt, slots)
        days = batch.timestamp // DAY_MS
        text = sql.marked(
            [-(marker + slot) for slot in range(slots)],
            np.unique(days).tolist(),
            self._session.server.marked,
        )
        series, at = await self._session.columns(
            text, [np.int64, np.int64], self._session.server.newest
        )
        stored = set(zip((-series - marker).tolist(), (at // DAY_MS).tolist(), strict=True))
        if not stored:
            return batch
        places = zip(blocks.slots_of(batch.series, slots).tolist(), days.tolist(), strict=True)
        left = np.array([place not in stored for place in places], bool)
        return Batch(batch.series[left], batch.timestamp[left], batch.value[left])

    async def wait_for_inserts(self) -> None:
        """Return once no insert of measurements that was sent before now is running."""
        text = sql.running(self._prefix, self._session.server.processes)
        awaited: set[str] = set()
        deadline = time.monotonic() + INSERT_S
        for look in range(2):
            awaited.update(i for (i,) in await self._session.json(text, tuple[str]))
            if look == 0:
                await asyncio.sleep(SETTLE_S)
        while awaited:
            if time.monotonic() > deadline:
                raise unavailable("Earlier measurements are still being stored.")
            await asyncio.sleep(SETTLE_S)
            awaited.intersection_update(i for (i,) in await self._session.json(text, tuple[str]))

    async def insert(
        self, table: str, block: bytes, token: str = "", since: float | None = None
    ) -> None:
        """Insert a block. ClickHouse drops a block whose token it has seen; a block without one is
        unique. ``since``: the monotonic time, in seconds, of the decision to insert. A block that
        cannot be sent soon after is dropped: this process may have stalled, and another may have
        stored the same rows."""
        number = uuid.uuid4().hex
        params = self._session.server.only_known(
            {
                **self._session.server.inserting,
                "insert_deduplicate": int(bool(token)),
                "insert_deduplication_token": token or number,
            }
        )
        if table == "measurements":
            params["query_id"] = self._prefix + number
        await self._session.result_of(
            "store measurements",
            self._session.client.insert(table, block, params, deadline_s=INSERT_S, since=since),
        )
