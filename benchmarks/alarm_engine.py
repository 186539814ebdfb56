"""The alarm engine in process: ``python -m benchmarks.alarm_engine NUMBER`` prints JSON.

One alarm on each series, of several kinds; one measurement a series and minute.
"""

import json
import resource
import sys
import time

import numpy as np

from heliometer.alarms.engine.engine import Engine
from heliometer.alarms.engine.model import Rules, Watched
from heliometer.alarms.expression import Metric, Subexpression
from heliometer.alarms.expression.nodes import Function
from heliometer.metrics.model import Batch, Series

START_MS = 1_795_000_020_000
MINUTE_MS = 60_000
BATCH = 10_000
MINUTES = 6


def measure(number: int) -> dict[str, float]:
    """Seconds to evaluate all, seconds to take a minute's measurements, and memory."""
    start = START_MS // MINUTE_MS * MINUTE_MS
    engine = Engine(Rules())
    random = np.random.default_rng(1)
    series = [Series(i + 1, "p", "ns", (("host", f"h{i}"),)) for i in range(number)]
    by_name = {s.dimensions: [s] for s in series}
    functions: tuple[Function, ...] = ("avg", "max", "count", "sum")
    watched = [
        Watched(
            f"alarm-{i:08}",
            "p",
            Subexpression(
                Metric("ns", s.dimensions), ">", 10_000.0, functions[i % 4],
                60 * (1 + i % 5), 1 + i % 3,
            ),
        )
        for i, s in enumerate(series)
    ]  # fmt: skip
    engine.add(watched, lambda _, __, dimensions: by_name[tuple(dimensions.items())], start)
    engine.filled()
    engine.restore(b"", start)
    ids = np.arange(1, number + 1)
    taken, evaluated = [], []
    for minute in range(1, MINUTES + 1):
        now = start + minute * MINUTE_MS
        stamps = now - 30_000 + random.integers(0, 20_000, number)
        values = random.uniform(0, 100, number)
        began = time.perf_counter()
        for i in range(0, number, BATCH):
            part = slice(i, i + BATCH)
            engine.take(Batch(ids[part], stamps[part], values[part]), now - 9_000)
        taken.append(time.perf_counter() - began)
        began = time.perf_counter()
        engine.evaluate(now, now + 5_000)
        engine.checkpoint()
        evaluated.append(time.perf_counter() - began)
    return {
        # In the first minutes every alarm changes from UNDETERMINED to OK.
        "evaluate_s": float(np.median(evaluated[3:])),
        "evaluate_worst_s": max(evaluated),
        "take_s": float(np.median(taken)),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
