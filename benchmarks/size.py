"""Bytes a measurement takes on disk once sealed, for values of several kinds."""

import asyncio
import csv
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bodies import dimensions
from benchmarks.figures import Figure, Options
from benchmarks.stored import DAY_MS, MINUTES, STEP_MS, open_store
from heliometer.metrics.model import Batch, Series

Floats = NDArray[np.float64]

NAB = Path(os.environ.get("HELIOMETER_BENCH_NAB", "../shared/data/nab"))
"""Real series of EC2, RDS and ELB from the Numenta Anomaly Benchmark, where present."""
COPIES = 200


def run(options: Options) -> list[Figure]:
    """The partitions' size divided by the measurements in them."""
    number = 200 if options.quick else 5000
    random = np.random.default_rng(7)
    kinds: list[tuple[str, Floats, bool]] = [
        ("random walk, 2 decimals", _walks(random, number), False),
        ("noise around a level, 2 decimals", np.round(random.normal(50, 5, (MINUTES, number)), 2),
         False),
        ("counters of bytes", _counters(random, number), False),
        ("half walks, half counters",
         np.hstack([_walks(random, number // 2), _counters(random, number // 2)]), True),
    ]  # fmt: skip
    real = list(_nab())
    if real:
        copies = _copies(random, real, 20 if options.quick else COPIES)
        kinds.append(("EC2, RDS and ELB (NAB)", copies, True))
    figures = []
    for i, (name, values, judged) in enumerate(kinds):
        size = asyncio.run(_bytes_a_point(options.folder / f"kind-{i}", values))
        figures.append(Figure(f"size: {name}", size, "B/point", at_most=4.0 if judged else None))
    if not real:
        print(f"no series in {NAB} (set HELIOMETER_BENCH_NAB): size of real series left out")
    return figures


async def _bytes_a_point(data_dir: Path, values: Floats) -> float:
    """Store one value a minute and series, a day at most in one go, and seal."""
    (data_dir / "metrics").mkdir(parents=True)
    store = open_store(data_dir)
    minutes, number = values.shape
    series = [Series(n + 1, "p", "size", tuple(dimensions(n).items())) for n in range(number)]
    ids = np.arange(1, number + 1, dtype=np.int64)
    first_ms = (int(time.time() * 1000) // DAY_MS - 1) * DAY_MS - (minutes // MINUTES) * DAY_MS
    # Hosts post a little apart from each other, each at its own second of the minute.
    offset = ids % 60 * 1000
    for first in range(0, minutes, 60):
        rows = values[first : first + 60]
        stamps = first_ms + (first + np.arange(len(rows)))[:, None] * STEP_MS + offset
        batch = Batch(np.tile(ids, len(rows)), stamps.ravel().astype(np.int64), rows.ravel())
        await store.append(batch, series, [])
        series = []
    await store.maintain(int(time.time() * 1000), seal_all=True)
    assert not store.sources.tables
    await store.close()
    files = (data_dir / "metrics" / "partitions").iterdir()
    return sum(file.stat().st_blocks * 512 for file in files) / values.size


def _walks(random: np.random.Generator, number: int) -> Floats:
    steps = random.normal(0, 2, (MINUTES, number))
    start = random.uniform(200, 900, number)
    walks: Floats = np.clip(start + np.cumsum(steps, axis=0), 0, 1000)
    return np.round(walks, 2)


def _counters(random: np.random.Generator, number: int) -> Floats:
    grown = random.poisson(random.uniform(0, 100_000, number), (MINUTES, number))
    return np.cumsum(grown, axis=0) + np.round(random.uniform(0, 1e9, number))


def _nab() -> Iterator[Floats]:
    for path in sorted(NAB.glob("*.csv")):
        with path.open(newline="") as file:
            rows = csv.reader(file)
            next(rows)
            yield np.array([float(value) for _, value in rows])


def _copies(random: np.random.Generator, real: list[Floats], copies: int) -> Floats:
    """Each real series many times, shifted in time: as many hosts of the same kind."""
    length = min(len(series) for series in real)
    columns = [
        np.roll(series[:length], int(random.integers(length)))
        for _, series in itertools.product(range(copies), real)
    ]
    return np.stack(columns, axis=1)
