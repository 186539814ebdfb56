"""ClickHouse beside the embedded store, both asked as the service asks them, without HTTP of ours.

Needs a ClickHouse: HELIOMETER_BENCH_CLICKHOUSE names it (clickhouse://user:password@host:8123);
without, the one that ``scripts/engines`` starts. A database of its own is made and dropped there.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bodies import METRICS_A_HOST, NAMESPACE, Values, dimensions
from benchmarks.figures import Figure, Options, latencies
from heliometer.config import MetricSettings
from heliometer.metrics.model import Aggregation, Batch, Int64s, Series
from heliometer.metrics.receipts import Receipt, ReceiptKind
from heliometer.metrics.series_ids import shared_id
from heliometer.storage.clickhouse.store import ClickHouseStore
from heliometer.storage.duckdb.store import DuckDBStore

DAY_MS = 86_400_000
MINUTES = 1440
SERIES = 10_000
QUICK_SERIES = 1000
STATISTICS = ("avg", "sum", "min", "max", "count")
TIMES_SLOWER = 2.0
SMALL = 200
"""Measurements of a small batch, as one post of an agent has them."""

Store = DuckDBStore | ClickHouseStore


def run(options: Options) -> list[Figure]:
    """Ingest, latencies and size of each, and how many times slower ClickHouse is."""
    return asyncio.run(_run(options))


async def _run(options: Options) -> list[Figure]:
    number = QUICK_SERIES if options.quick else SERIES
    times = 20 if options.quick else 100
    embedded = DuckDBStore(options.folder / "metrics", MetricSettings())
    (options.folder / "metrics").mkdir(parents=True)
    embedded.open()
    database = f"bench_{uuid.uuid4().hex[:8]}"
    url = _server().rstrip("/")
    remote = ClickHouseStore(MetricSettings(url=f"{url}/{database}"))
    await remote.open()
    try:
        day = int(time.time() * 1000) // DAY_MS - 1
        numbers = np.arange(1, number + 1, dtype=np.int64)
        shared = np.array([_shared(n) for n in range(number)], np.int64)
        figures = await _load("embedded", embedded, numbers, day)
        figures += await _load("ClickHouse", remote, shared, day)
        await embedded.maintain(int(time.time() * 1000), seal_all=True)
        size = sum(f.stat().st_size for f in (options.folder / "metrics/partitions").iterdir())
        figures.append(Figure("embedded: size", size / (number * MINUTES), "B/point"))
        figures.append(await _size(url, database))
        targets: list[tuple[Store, Int64s]] = [(embedded, numbers), (remote, shared)]
        figures += await _ask(targets, day, times)
        return figures
    finally:
        await _command(url, f"DROP DATABASE IF EXISTS {database}")
        await remote.close()
        await embedded.close()


def _shared(n: int) -> int:
    pairs = tuple(sorted(dimensions(n).items()))
    return shared_id(Series(0, "0" * 32, NAMESPACE, pairs))


async def _load(name: str, store: Store, ids: Int64s, day: int) -> list[Figure]:
    """A day, a minute of all series at a time; then small batches, one after the other."""
    values = Values(len(ids), rounds=MINUTES)
    began = time.perf_counter()
    for minute in range(MINUTES):
        at = np.full(len(ids), day * DAY_MS + minute * 60_000)
        rows = values.hundredths[minute] / 100
        receipt = Receipt("p", f"{name} {minute}", b"", day * DAY_MS, ReceiptKind.HANDOVER)
        remote = isinstance(store, ClickHouseStore)
        await store.append(Batch(ids, at, rows), [], [receipt] if remote else [])
    seconds = time.perf_counter() - began
    small, taken = ids[:SMALL], []
    for k in range(50):
        # Of another day, so that the queries below find what they expect.
        batch = Batch(small, np.full(SMALL, (day - 1) * DAY_MS + k), np.ones(SMALL))
        before = time.perf_counter()
        await store.append(batch, [], [])
        taken.append(time.perf_counter() - before)
    return [
        Figure(
            f"{name}: ingest, {len(ids)} a batch", len(ids) * MINUTES / seconds, "points/s",
            at_least=60_000,
        ),
        *latencies(f"{name}: a batch of {SMALL} is durable", taken),
    ]  # fmt: skip


async def _ask(targets: list[tuple[Store, Int64s]], day: int, times: int) -> list[Figure]:
    """The same questions to both in turn, so that whatever else the machine does slows both."""
    random = np.random.default_rng(1)
    start, end = day * DAY_MS, (day + 1) * DAY_MS

    def statistics(store: Store, series: list[int]) -> Awaitable[Any]:
        return store.aggregate(Aggregation(series, start, end, 300_000, STATISTICS))

    def latest(store: Store, series: list[int]) -> Awaitable[Any]:
        return store.latest(series, start - 30 * DAY_MS, end, 100)

    def last_minutes(store: Store, series: list[int]) -> Awaitable[Any]:
        return store.read(series, end - 300_000, end)

    whole = len(targets[0][1])
    host = slice(0, METRICS_A_HOST)
    metric = slice(17, None, METRICS_A_HOST)
    Ask = Callable[[Store, list[int]], Awaitable[Any]]  # noqa: N806
    kinds: list[tuple[str, Ask, slice | None, int, bool]] = [
        ("one series, a day by 5 minutes", statistics, None, times, True),
        (f"{METRICS_A_HOST} series (a host)", statistics, host, times, True),
        (f"{whole // METRICS_A_HOST} series (a metric)", statistics, metric, times, True),
        ("latest 100 of one series", latest, None, times, True),
        (f"latest 100 of {METRICS_A_HOST} series", latest, host, times, True),
        (f"last 5 minutes of {whole} series", last_minutes, slice(None), times // 5, False),
    ]
    figures = []
    for name, ask, which, repeated, judged in kinds:
        taken: list[list[float]] = [[], []]
        for i in range(repeated + 3):
            one = int(random.integers(whole))
            for k, (store, ids) in enumerate(targets):
                series = ids[which if which is not None else slice(one, one + 1)].tolist()
                before = time.perf_counter()
                found = await ask(store, series)
                if i >= 3:  # the first ones warm up
                    taken[k].append(time.perf_counter() - before)
                if ask is statistics and i == 0:
                    assert found.columns["count"].sum() == len(series) * MINUTES
        for k, engine in enumerate(("embedded", "ClickHouse")):
            figures += latencies(f"{engine}: {name}", taken[k])
        slower = float(np.median(taken[1]) / np.median(taken[0]))
        most = TIMES_SLOWER if judged else None
        figures.append(Figure(f"{name}: ClickHouse / embedded, p50", slower, "×", at_most=most))
    return figures


async def _size(url: str, database: str) -> Figure:
    text = (
        "SELECT sum(bytes_on_disk) / sum(rows), count() FROM system.parts "
        f"WHERE active AND table = 'measurements' AND database = '{database}'"
    )
    size, parts = (await _command(url, text)).split()
    return Figure("ClickHouse: size", float(size), "B/point", note=f"{parts} parts, as merged yet")


async def _command(url: str, text: str) -> str:
    from heliometer.storage.clickhouse.http import Address, Client

    client = Client(Address.parse(url))
    try:
        return (await client.ask(text, deadline_s=60, database=False)).decode()
    finally:
        await client.close()


def _server() -> str:
    given = os.environ.get("HELIOMETER_BENCH_CLICKHOUSE")
    if given:
        return given
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from engine_servers import engines

    return engines().clickhouse.rpartition("/")[0]
