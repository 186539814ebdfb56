"""ClickHouse as the target of a migration: the operations beyond the store's port."""

# Names and numbers in the SQL below come from this program and its settings.
# ruff: noqa: S608

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from heliometer.config import MetricSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt
from heliometer.migrate.digests import Digests
from heliometer.storage.clickhouse import native, sql
from heliometer.storage.clickhouse.http import Address, Client, Trouble
from heliometer.storage.clickhouse.schema import Server, learn
from heliometer.storage.clickhouse.sql import DAY_MS
from heliometer.storage.clickhouse.store import ClickHouseStore

HASH = "sum(intHash64(bitXor(intHash64(ts), reinterpretAsUInt64(reinterpretAsString(value)))))"
"""The digest of ``migrate.digests`` in SQL; available since release 1.1."""
DIGEST_S = 1800
"""The longest that reading all measurements of a day may take, in seconds."""
LAG_S = 300.0
"""How long to wait for replicas that lag behind, in seconds."""
READ_SERIES = 2000
"""The most series whose measurements are read in one query."""
APPENDED_SERIES = 50_000


class ClickHouseTarget:
    """Implements ``migrate.ports.Target``. Every method raises UNAVAILABLE."""

    def __init__(self, settings: MetricSettings) -> None:
        """Raises StoreUnusable for an invalid URL."""
        self._settings = settings
        self._store = ClickHouseStore(settings)
        self._client = Client(Address.parse(settings.url))
        self._server = Server()

    @property
    def name(self) -> str:
        """Server and database, without secrets."""
        return f"{self._client.address.url}/{self._client.address.database}"

    async def open(self) -> None:
        """Create missing tables. Raises StoreUnusable."""
        await self._store.open()
        try:
            self._server = await learn(self._client, self._settings)
        except Trouble as error:
            raise _unavailable(self.name, error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self._store.close()

    async def settle(self) -> None:
        """Return when no earlier insert is running and every replica has what any has, so that
        reads see everything that is stored."""
        await self._store.wait_for_inserts()
        if not self._settings.cluster:
            return
        kind = "clusterAllReplicas" if self._server.sees_all_replicas else "cluster"
        text = (
            "SELECT toInt64(max(inserts_in_queue)), toInt64(max(log_max_index + 1 - log_pointer)) "
            f"FROM {kind}('{self._settings.cluster}', system.replicas) "
            f"WHERE database = '{self._client.address.database}' "
            f"AND table = '{sql.local(sql.MEASUREMENTS, self._settings.cluster)}' FORMAT Native"
        )
        deadline = time.monotonic() + LAG_S
        while any(column.max(initial=0) > 0 for column in await self._ask(text, [np.int64] * 2)):
            if time.monotonic() > deadline:
                raise _unavailable(self.name, Trouble("its replicas lag behind"))
            await asyncio.sleep(1)

    async def days(self) -> dict[int, int]:
        """The days that have rows, and how many, including the rows of markers."""
        cluster = self._settings.cluster
        source = f"cluster('{cluster}', system.parts)" if cluster else "system.parts"
        text = (
            f"SELECT toInt64(partition) AS p, toInt64(sum(rows)) FROM {source} "
            f"WHERE database = '{self._client.address.database}' "
            f"AND table = '{sql.local(sql.MEASUREMENTS, cluster)}' AND active "
            "GROUP BY p FORMAT Native"
        )
        days, rows = await self._ask(text, [np.int64, np.int64])
        return dict(zip(days.tolist(), rows.tolist(), strict=True))

    async def digests(self, day: int) -> Digests:
        """The digests of all series that have measurements on a day."""
        text = (
            f"SELECT series AS s, toInt64(count()), {HASH} FROM measurements "
            f"WHERE ts >= {day * DAY_MS} AND ts < {(day + 1) * DAY_MS} AND series > 0 "
            "GROUP BY s FORMAT Native"
        )
        return Digests(*await self._ask(text, [np.int64, np.int64, np.uint64]))

    async def read(self, series: Sequence[int], day: int) -> Batch:
        """The measurements of some series, at least one, on a day."""
        parts = [
            await self._store.read(series[i : i + READ_SERIES], day * DAY_MS, (day + 1) * DAY_MS)
            for i in range(0, len(series), READ_SERIES)
        ]
        return Batch.concatenate(parts)

    async def append(self, batch: Batch, receipt: Receipt, *, maybe_duplicate: bool) -> None:
        """Store measurements. ``maybe_duplicate``: they were sent before with this receipt, with
        unknown result."""
        await self._store.append(batch, [], [receipt], maybe_duplicate=maybe_duplicate)

    async def load_series(self) -> list[Series]:
        """All series that the target has."""
        return await self._store.load_series()

    async def add_series(self, series: Sequence[Series]) -> None:
        """Add series; those that exist already stay unchanged."""
        nothing = Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        for i in range(0, len(series), APPENDED_SERIES):
            await self._store.append(nothing, series[i : i + APPENDED_SERIES], [])

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        """The receipts of requests accepted since then."""
        return await self._store.load_receipts(since_ms)

    async def add_receipts(self, receipts: Sequence[Receipt]) -> None:
        """Store receipts; duplicates count once."""
        nothing = Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        if receipts:
            await self._store.append(nothing, [], receipts)

    async def _ask(self, text: str, dtypes: Sequence[type[np.generic]]) -> list[Any]:
        settings = self._server.only_known(
            {
                **self._server.asking,
                "max_execution_time": DIGEST_S,
                # Where a replica may lag behind, only rows that a quorum has are read.
                "select_sequential_consistency": int(self._settings.insert_quorum > 1),
            }
        )
        try:
            body = await self._client.ask(text, settings, deadline_s=DIGEST_S + 5)
            return list(native.decode(body, dtypes))
        except (Trouble, native.NotNative) as error:
            raise _unavailable(self.name, error) from error


def _unavailable(name: str, error: Exception) -> HeliometerError:
    return HeliometerError(
        Code.UNAVAILABLE, f"ClickHouse at {name} does not answer: {error}.", retry_after=5
    )
