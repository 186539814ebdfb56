"""Fills a data directory through the store itself, for amounts and ages that HTTP does not take.

Run in a process of its own while no server has the directory open:
``python -m benchmarks.stored DATA_DIR --project ID --days 29 [--ago 1] [--series 10000]``
"""

import argparse
import asyncio
import time
from pathlib import Path

import numpy as np

from benchmarks.bodies import NAMESPACE, Values, dimensions
from heliometer.config import MetricSettings
from heliometer.metrics.model import Batch, Series
from heliometer.storage.duckdb.store import DuckDBStore

MINUTES = 1440
DAY_MS = 86_400_000
STEP_MS = 60_000


async def fill(
    store: DuckDBStore, project_id: str, number: int, days: int, newest_day: int, minutes: int
) -> int:
    """Store whole days of one measurement a minute, sealed; return how many measurements.

    ``newest_day`` counts from the epoch; ``minutes`` of each day are filled.
    """
    series, new = await _series(store, project_id, number)
    values = Values(number, rounds=MINUTES)
    total = 0
    for day in range(newest_day - days + 1, newest_day + 1):
        for first in range(0, minutes, 60):
            count = min(60, minutes - first)
            rows = values.hundredths[first : first + count] / 100
            stamps = day * DAY_MS + (first + np.arange(count)) * STEP_MS
            batch = Batch(
                np.tile(series, count), np.repeat(stamps, number).astype(np.int64), rows.ravel()
            )
            await store.append(batch, new, [])
            new = []
            total += len(batch)
        await store.maintain(int(time.time() * 1000), seal_all=True)
    return total


async def _series(
    store: DuckDBStore, project_id: str, number: int
) -> tuple[np.ndarray, list[Series]]:
    """The ids of the benchmark's series, and those of them that are new to the store."""
    known = {
        s.dimensions: s.id
        for s in await store.load_series()
        if (s.project_id, s.namespace) == (project_id, NAMESPACE)
    }
    following = max(known.values(), default=0) + 1
    ids, new = [], []
    for n in range(number):
        pairs = tuple(sorted(dimensions(n).items()))
        if pairs not in known:
            new.append(Series(following, project_id, NAMESPACE, pairs))
            known[pairs] = following
            following += 1
        ids.append(known[pairs])
    return np.array(ids, dtype=np.int64), new


def open_store(data_dir: Path) -> DuckDBStore:
    """The store of a data directory, with the settings' defaults."""
    store = DuckDBStore(data_dir / "metrics", MetricSettings())
    store.open()
    return store


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stored")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--project", required=True)
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--ago", type=int, default=1, help="how many days ago the newest one is")
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=MINUTES, help="of each day")
    a = parser.parse_args()
    store = open_store(a.data_dir)
    newest = int(time.time() * 1000) // DAY_MS - a.ago
    print(await fill(store, a.project, a.series, a.days, newest, a.minutes))
    await store.close()


if __name__ == "__main__":
    asyncio.run(_main())
