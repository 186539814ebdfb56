"""Measurements in ClickHouse: the store that several processes share.

An append is a few inserts: new series, then the measurements, a block for each day, then the
receipts. A block becomes visible as a whole. A caller that did not learn the result of an append
repeats it as ``maybe_duplicate``. To recognise what is stored already, each block of measurements
has a *marker* for each receipt: a row with a negative series, which only that receipt's block of
that day can contain. ``docs/decisions/0019-clickhouse.md`` has the reasons.
"""

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from heliometer.config import MetricSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import RECEIPT_LIFE_MS, Receipt, ReceiptKind
from heliometer.storage.clickhouse import blocks, native, sql
from heliometer.storage.clickhouse.http import Address, Client, Trouble
from heliometer.storage.clickhouse.schema import QUERY_S, Server, prepare
from heliometer.storage.clickhouse.sql import DAY_MS
from heliometer.storage.errors import StoreUnusable

T = TypeVar("T")
log = logging.getLogger(__name__)

INSERT_S = 60.0
"""The longest that an insert may take; its outcome is unknown then."""
START_S = 30.0
"""How long a start waits for a ClickHouse that does not answer."""
RETRY_S = 5
"""When whoever was refused may try again, in seconds."""
SETTLE_S = 0.25
"""Between the two looks for inserts that still run. One whose connection was made before the first
look has begun by the second."""
ADDED_MARGIN_MS = 300_000
"""How much earlier than asked ``series_since`` looks: an insert takes its time, and clocks
differ."""
DDL_S = 20
"""How long the servers of a cluster are given to obey."""
PAGE = 250_000
_NOT_ALL_OBEYED = 159
INTEGERS = {"count", "first_ms", "last_ms"}
"""The statistics that are whole numbers."""


class ClickHouseStore:
    """A :class:`~heliometer.metrics.model.MeasurementStore` over ClickHouse's HTTP interface.

    Everything raises UNAVAILABLE when ClickHouse cannot be asked or does not do it.
    """

    def __init__(self, settings: MetricSettings) -> None:
        """Raises StoreUnusable for a URL that cannot be one."""
        try:
            self._address = Address.parse(settings.url)
        except ValueError as error:
            raise StoreUnusable(f"metrics.url is {error}") from error
        self._settings = settings
        self._client = Client(self._address)
        self._server = Server()
        self._down: dict[str, float] = {}
        self._prefix = f"heliometer-{self._address.database}-insert-"
        self._process = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"

    # -- opening and closing ------------------------------------------------------------------

    async def open(self) -> None:
        """Make the database and the tables where they are missing. Raises StoreUnusable."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._server = await prepare(self._client, self._settings)
                return
            except Trouble as error:
                # What ClickHouse itself says about our user or tables does not pass by waiting.
                if error.code or time.monotonic() > deadline:
                    await self._client.close()
                    raise StoreUnusable(
                        f"cannot use ClickHouse at {self._address.url}, database "
                        f"{self._address.database}: {error}"
                    ) from error
                log.warning("ClickHouse at %s: %s; waiting for it", self._address.url, error)
                await asyncio.sleep(1)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

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
            await self.wait_for_inserts()
            since = time.monotonic()
            batch = await self._without_stored(batch, receipts[0])
        if series:
            await self._insert(
                "series (id, project_id, namespace, dimensions)",
                blocks.of_series(series),
                since=since,
            )
            since = time.monotonic()
        markers = [blocks.marker(r, self._server.slots) for r in receipts]
        for day, rows in blocks.by_day(batch):
            await self._insert(
                "measurements",
                blocks.of_day(day, rows, markers, self._server.slots),
                blocks.token(day, receipts),
                since,
            )
            since = time.monotonic()
        kept = [r for r in receipts if r.kind is not ReceiptKind.HANDOVER]
        if kept:
            await self._insert("receipts", blocks.of_receipts(kept))

    async def aggregate(self, aggregation: Aggregation) -> Datapoints:
        a = aggregation
        dtypes: list[type[np.generic]] = [np.int64, np.int64]
        dtypes += [np.int64 if s in INTEGERS else np.float64 for s in a.statistics]
        found: list[Any] = [np.empty(0, dtype) for dtype in dtypes]
        if a.series:
            origin = a.origin_ms
            if origin is None:
                number, at = await self._columns(
                    sql.first(a.series, a.start_ms, a.end_ms), [np.int64, np.int64]
                )
                origin = int(at[0]) if len(number) and number[0] else a.start_ms
            found = await self._columns(sql.aggregate(a, origin), dtypes)
        return Datapoints(found[0], found[1], dict(zip(a.statistics, found[2:], strict=True)))

    async def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        return await self._batch(sql.read(series, start_ms, end_ms) if series else "")

    async def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        return await self._batch(sql.latest(series, start_ms, end_ms, limit) if series else "")

    async def load_series(self) -> list[Series]:
        found: list[Series] = []
        while True:
            page = await self._series(sql.series_page(found[-1].id if found else 0, PAGE))
            found += page
            if len(page) < PAGE:
                return found

    async def series_since(self, at_ms: int) -> list[Series]:
        """The series that any process added since then, by ClickHouse's clock, and perhaps some
        from before."""
        return await self._series(sql.series_since(at_ms - ADDED_MARGIN_MS))

    async def find_series(self, ids: Sequence[int]) -> list[Series]:
        """Those of the series with these ids that the store knows."""
        return await self._series(sql.series_of(ids)) if ids else []

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        rows = await self._json(sql.receipts_since(since_ms), tuple[str, str, str, int])
        return [Receipt.decode(p, k, bytes.fromhex(f), at) for p, k, f, at in rows]

    async def delete_before(self, timestamp_ms: int) -> None:
        await self._drop(sql.MEASUREMENTS, timestamp_ms // DAY_MS)

    async def ping(self) -> None:
        await self._refuse_when_full()
        now = time.time_ns()
        block = native.encode([("process", [self._process]), ("at", np.array([now], np.int64))])
        await self._insert("probe", block)
        text = f"SELECT max(at) FROM probe WHERE process = '{self._process}' FORMAT Native"  # noqa: S608
        (found,) = await self._columns(text, [np.int64])
        if not len(found) or found[0] < now:
            raise HeliometerError(Code.UNAVAILABLE, "What was written is not there.")

    # -- upkeep -------------------------------------------------------------------------------

    async def maintain(self, now_ms: int) -> None:
        """Forget old receipts. Merging is ClickHouse's own business."""
        await self._drop(sql.RECEIPTS, (now_ms - RECEIPT_LIFE_MS) // DAY_MS)

    @property
    def version(self) -> str:
        """ClickHouse's."""
        return self._server.version

    # -- appending ----------------------------------------------------------------------------

    async def _without_stored(self, batch: Batch, receipt: Receipt) -> Batch:
        """The rows of a batch whose day, on their server, lacks the receipt's marker. No insert
        that was sent before runs any more."""
        slots = self._server.slots
        marker = blocks.marker(receipt, slots)
        days = batch.timestamp // DAY_MS
        text = sql.marked(
            [-(marker + slot) for slot in range(slots)],
            np.unique(days).tolist(),
            self._server.marked,
        )
        series, at = await self._columns(text, [np.int64, np.int64], self._server.newest)
        stored = set(zip((-series - marker).tolist(), (at // DAY_MS).tolist(), strict=True))
        if not stored:
            return batch
        places = zip(blocks.slots_of(batch.series, slots).tolist(), days.tolist(), strict=True)
        left = np.array([place not in stored for place in places], bool)
        return Batch(batch.series[left], batch.timestamp[left], batch.value[left])

    async def wait_for_inserts(self) -> None:
        """Return when no insert of measurements runs any more that was sent before now."""
        text = sql.running(self._prefix, self._server.processes)
        awaited: set[str] = set()
        deadline = time.monotonic() + INSERT_S
        for look in range(2):
            awaited.update(i for (i,) in await self._json(text, tuple[str]))
            if look == 0:
                await asyncio.sleep(SETTLE_S)
        while awaited:
            if time.monotonic() > deadline:
                raise _unavailable("Earlier measurements are still being stored.")
            await asyncio.sleep(SETTLE_S)
            awaited.intersection_update(i for (i,) in await self._json(text, tuple[str]))

    async def _insert(
        self, table: str, block: bytes, token: str = "", since: float | None = None
    ) -> None:
        """Insert a block. Without a token it is another one than any before, though equal.

        ``since``: the steady time, in seconds, at which it was right to. When it cannot be sent
        soon after, it is not: this process may have stood still, and another store the same.
        """
        number = uuid.uuid4().hex
        params = self._server.only_known(
            {
                **self._server.inserting,
                "insert_deduplicate": int(bool(token)),
                "insert_deduplication_token": token or number,
            }
        )
        if table == "measurements":
            params["query_id"] = self._prefix + number
        await self._told(
            "store measurements",
            self._client.insert(table, block, params, deadline_s=INSERT_S, since=since),
        )

    # -- asking -------------------------------------------------------------------------------

    async def _batch(self, text: str) -> Batch:
        if not text:
            return Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        return Batch(*await self._columns(text, [np.int64, np.int64, np.float64]))

    async def _columns(
        self,
        text: str,
        dtypes: Sequence[type[np.generic]],
        settings: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        body = await self._ask(text, settings)
        try:
            return list(native.decode(body, dtypes))
        except native.NotNative as error:
            log.error("ClickHouse's answer cannot be read: %s", error)
            raise _unavailable("The measurements could not be read.") from error

    async def _json(self, text: str, row: type[T]) -> list[T]:
        answer = msgspec.json.decode(await self._ask(text), type=_Answer)
        return msgspec.json.decode(answer.data, type=list[row])  # type: ignore[valid-type]

    async def _series(self, text: str) -> list[Series]:
        rows = await self._json(text, tuple[int, str, str, str])
        pairs = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode
        return [Series(i, p, n, pairs(d)) for i, p, n, d in rows]

    async def _ask(self, text: str, settings: Mapping[str, Any] | None = None) -> bytes:
        params = self._server.only_known({**self._server.asking, **(settings or {})})
        return await self._told(
            "answer queries",
            # Somewhat longer than ClickHouse itself gives it, which says more when it gives up.
            self._client.ask(text, params, deadline_s=QUERY_S + 5),
        )

    async def _drop(self, table: sql.Table, before: int) -> None:
        """Drop a table's partitions with smaller numbers."""
        cluster = self._settings.cluster
        name = sql.local(table, cluster)
        text = sql.partitions(self._address.database, name, cluster)
        (numbers,) = await self._columns(text, [np.int64])
        settings = self._server.only_known(
            {"max_partition_size_to_drop": 0, "distributed_ddl_task_timeout": DDL_S}
        )
        for number in numbers[numbers < before].tolist():
            command = sql.drop_partition(name, cluster, number)
            await self._told("drop partitions", self._order(command, settings))

    async def _order(self, command: str, settings: Mapping[str, Any]) -> None:
        try:
            await self._client.ask(command, settings, deadline_s=INSERT_S)
        except Trouble as error:
            # A server of the cluster that is down obeys when it is back.
            if error.code != _NOT_ALL_OBEYED:
                raise

    async def _refuse_when_full(self) -> None:
        if not self._server.has_disks:
            return
        (free,) = await self._columns(
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

    async def _told(self, what: str, work: Awaitable[T]) -> T:
        """What ``work`` gives; UNAVAILABLE for Trouble, which the log tells once an outage."""
        try:
            result = await work
        except Trouble as error:
            if what not in self._down:
                self._down[what] = time.monotonic()
                log.error("ClickHouse at %s does not %s: %s", self._address.url, what, error)
            done = {"store": "stored", "drop": "removed"}.get(what.split()[0], "read")
            raise _unavailable(f"The measurements cannot be {done} now.") from error
        if self._down and (since := self._down.pop(what, None)) is not None:
            seconds = time.monotonic() - since
            log.warning("after %.0f s, ClickHouse does %s again", seconds, what)
        return result


class _Answer(msgspec.Struct):
    """What the format JSONCompact has besides descriptions."""

    data: msgspec.Raw


def _unavailable(message: str) -> HeliometerError:
    return HeliometerError(
        Code.UNAVAILABLE,
        message,
        details="Send the request again a little later; if it goes on, tell the operator.",
        retry_after=RETRY_S,
    )
