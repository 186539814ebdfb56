"""Measurements in ClickHouse: the store that several processes share.

An append is a few inserts: new series, then the measurements, a block for each day, then the
receipts. A block becomes visible as a whole. A caller that does not know the result of an append
repeats it with ``maybe_duplicate``. To recognise rows that are stored already, each block of
measurements has a *marker* for each receipt: a row with a negative series, which only that
receipt's block of that day can contain. ``docs/decisions/0019-clickhouse.md`` has the reasons.
"""

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from heliometer.config import MetricSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import RECEIPT_LIFE_MS, Receipt, ReceiptKind
from heliometer.storage.clickhouse import blocks, native, sql
from heliometer.storage.clickhouse.http import Address, Trouble
from heliometer.storage.clickhouse.inserting import Inserter
from heliometer.storage.clickhouse.schema import prepare
from heliometer.storage.clickhouse.session import Session
from heliometer.storage.clickhouse.sql import DAY_MS
from heliometer.storage.errors import StoreUnusable

T = TypeVar("T")
log = logging.getLogger(__name__)

START_S = 30.0
"""How long a start waits for ClickHouse to answer, in seconds."""
ADDED_MARGIN_MS = 300_000
"""Overlap of ``series_since`` with earlier calls, for slow inserts and differing clocks."""
COMMAND_S = 60.0
"""The longest that a command may take, in seconds."""
DDL_S = 20
"""How long to wait for the servers of a cluster to execute a command, in seconds."""
PAGE = 250_000
_TIMEOUT_EXCEEDED = 159
"""ClickHouse's code when not all servers of the cluster have executed a command in time."""
INTEGERS = {"count", "first_ms", "last_ms"}
"""The aggregates that are integers."""


class ClickHouseStore:
    """A :class:`~heliometer.metrics.ports.MeasurementStore` over ClickHouse's HTTP interface. Every
    method raises UNAVAILABLE when ClickHouse does not answer or refuses."""

    def __init__(self, settings: MetricSettings) -> None:
        """Raises StoreUnusable for an invalid URL."""
        try:
            address = Address.parse(settings.url)
        except ValueError as error:
            raise StoreUnusable(f"metrics.url is {error}") from error
        self._settings = settings
        self._session = Session(address)
        self._inserter = Inserter(self._session)
        self._process = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"

    # -- opening and closing ------------------------------------------------------------------

    async def open(self) -> None:
        """Create the database and the tables that are missing. Raises StoreUnusable."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._session.server = await prepare(self._session.client, self._settings)
                return
            except Trouble as error:
                # Waiting does not help against ClickHouse's errors about the user or the tables.
                if error.code or time.monotonic() > deadline:
                    await self._session.client.close()
                    raise StoreUnusable(
                        f"cannot use ClickHouse at {self._session.address.url}, database "
                        f"{self._session.address.database}: {error}"
                    ) from error
                log.warning(
                    "ClickHouse at %s: %s; waiting for it", self._session.address.url, error
                )
                await asyncio.sleep(1)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.client.close()

    # -- the port -----------------------------------------------------------------------------

    async def append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        maybe_duplicate: bool = False,
    ) -> None:
        since = time.monotonic()
        if maybe_duplicate and receipts and len(batch):
            await self._inserter.wait_for_inserts()
            since = time.monotonic()
            batch = await self._inserter.without_stored(batch, receipts[0])
        if series:
            await self._inserter.insert(
                "series (id, project_id, namespace, dimensions)",
                blocks.of_series(series),
                since=since,
            )
            since = time.monotonic()
        markers = [blocks.marker(r, self._session.server.slots) for r in receipts]
        for day, rows in blocks.by_day(batch):
            await self._inserter.insert(
                "measurements",
                blocks.of_day(day, rows, markers, self._session.server.slots),
                blocks.token(day, receipts),
                since,
            )
            since = time.monotonic()
        kept = [r for r in receipts if r.kind is not ReceiptKind.HANDOVER]
        if kept:
            await self._inserter.insert("receipts", blocks.of_receipts(kept))

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        a = aggregation
        dtypes: list[type[np.generic]] = [np.int64, np.int64]
        dtypes += [np.int64 if s in INTEGERS else np.float64 for s in a.statistics]
        found: list[Any] = [np.empty(0, dtype) for dtype in dtypes]
        if a.series:
            origin = a.origin_ms
            if origin is None:
                number, at = await self._session.columns(
                    sql.first(a.series, a.start_ms, a.end_ms), [np.int64, np.int64]
                )
                origin = int(at[0]) if len(number) and number[0] else a.start_ms
            found = await self._session.columns(sql.aggregate(a, origin), dtypes)
        return Datapoints(found[0], found[1], dict(zip(a.statistics, found[2:], strict=True)))

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        return await self._session.batch(sql.read(series, start_ms, end_ms) if series else "")

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        return await self._session.batch(
            sql.latest(series, start_ms, end_ms, limit) if series else ""
        )

    async def load_series(self) -> list[Series]:
        found: list[Series] = []
        while True:
            page = await self._session.series(sql.series_page(found[-1].id if found else 0, PAGE))
            found += page
            if len(page) < PAGE:
                return found

    async def series_since(self, at_ms: int) -> list[Series]:
        """The series added by any process since then, by ClickHouse's clock, and perhaps some older
        ones."""
        return await self._session.series(sql.series_since(at_ms - ADDED_MARGIN_MS))

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        rows = await self._session.json(sql.receipts_since(since_ms), tuple[str, str, str, int])
        return [Receipt.decode(p, k, bytes.fromhex(f), at) for p, k, f, at in rows]

    async def delete_before(self, timestamp_ms: int) -> None:
        await self._drop(sql.MEASUREMENTS, timestamp_ms // DAY_MS)

    async def ping(self) -> None:
        await self._refuse_when_full()
        now = time.time_ns()
        block = native.encode([("process", [self._process]), ("at", np.array([now], np.int64))])
        await self._inserter.insert("probe", block)
        text = f"SELECT max(at) FROM probe WHERE process = '{self._process}' FORMAT Native"  # noqa: S608
        (found,) = await self._session.columns(text, [np.int64])
        if not len(found) or found[0] < now:
            raise HeliometerError(Code.UNAVAILABLE, "What was written is not there.")

    # -- upkeep -------------------------------------------------------------------------------

    async def maintain(self, now_ms: int) -> None:
        """Remove old receipts. ClickHouse merges on its own."""
        await self._drop(sql.RECEIPTS, (now_ms - RECEIPT_LIFE_MS) // DAY_MS)

    @property
    def version(self) -> str:
        """The version that the server reported at the start."""
        return self._session.server.version

    async def wait_for_inserts(self) -> None:
        """Return once no insert of measurements that was sent before now is running."""
        await self._inserter.wait_for_inserts()

    async def _drop(self, table: sql.Table, before: int) -> None:
        """Drop the table's partitions with numbers below ``before``."""
        cluster = self._settings.cluster
        name = sql.local(table, cluster)
        text = sql.partitions(self._session.address.database, name, cluster)
        (numbers,) = await self._session.columns(text, [np.int64])
        settings = self._session.server.only_known(
            {"max_partition_size_to_drop": 0, "distributed_ddl_task_timeout": DDL_S}
        )
        for number in numbers[numbers < before].tolist():
            command = sql.drop_partition(name, cluster, number)
            await self._session.result_of("drop partitions", self._order(command, settings))

    async def _order(self, command: str, settings: Mapping[str, Any]) -> None:
        try:
            await self._session.client.ask(command, settings, deadline_s=COMMAND_S)
        except Trouble as error:
            # A server of the cluster that is down executes it once it is back.
            if error.code != _TIMEOUT_EXCEEDED:
                raise

    async def _refuse_when_full(self) -> None:
        if not self._session.server.has_disks:
            return
        (free,) = await self._session.columns(
            "SELECT toUInt64(min(free_space)) FROM system.disks FORMAT Native", [np.int64]
        )
        if len(free) and free[0] < self._settings.min_free_bytes:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "The disk of the measurements' store is almost full.",
                details=f"{int(free[0]) >> 20} MiB are free, "
                f"{self._settings.min_free_bytes >> 20} MiB must stay free "
                "(metrics.min_free_bytes).",
                retry_after=30,
            )
