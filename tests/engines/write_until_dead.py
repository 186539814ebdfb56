"""Appends 0, 1, 2 … to a store, reading and sealing in between, and prints each number that was
acknowledged; or prints what it holds."""

import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from heliometer.config import MetricSettings
from heliometer.core.errors import HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.storage.duckdb.store import DuckDBStore


async def main(folder: str, appends: int, read: bool) -> None:
    """See above."""
    store = DuckDBStore(Path(folder), MetricSettings())
    store.open()
    now_ms = int(time.time() * 1000)
    if read:
        batch = await store.read([1], 0, now_ms + 1000)
        print(json.dumps([int(v) for v in batch.value]))
    series = [Series(1, "p", "n", ())]
    for i in range(appends):
        batch = Batch(np.array([1]), np.array([now_ms]), np.array([float(i)]))
        try:
            await store.append(batch, series, [])
        except HeliometerError:
            continue
        series = []
        print(i, flush=True)
        if i % 5 == 0:  # readers are there when it happens
            await store.read([1], now_ms, now_ms + 1)
        if i % 20 == 19:
            with suppress(HeliometerError):  # the service tries again a minute later
                await store.maintain(now_ms, seal_all=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), "--read" in sys.argv))
