"""A dry run: the same engine over stored measurements, as if they had arrived in time."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from heliometer.alarms.engine.engine import Engine
from heliometer.alarms.engine.model import Rules, Watched
from heliometer.alarms.expression import Expression, subexpressions
from heliometer.alarms.model import State, Transition
from heliometer.core.errors import Invalid
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex
from heliometer.metrics.statistics import MINUTE_MS

MOST_ROWS = 5_000_000
"""Measurements that a dry run may read, at one a minute and series."""
_ID = "dry run"


@dataclass(frozen=True, slots=True)
class DryRun:
    """What an alarm would have done."""

    start_ms: int
    end_ms: int
    transitions: Sequence[Transition]
    minutes_ms: Sequence[int]
    """The minutes that were evaluated."""
    values: Sequence[Sequence[float | None]]
    """For each subexpression, the value of its newest window at each of those minutes."""

    def spans(self, state: State) -> list[tuple[int, int]]:
        """The times, [start, end) in milliseconds, that the alarm would have been in a state."""
        found: list[tuple[int, int]] = []
        since: int | None = None
        for transition in self.transitions:
            if transition.new is state:
                since = transition.at_ms
            elif since is not None:
                found.append((since, transition.at_ms))
                since = None
        if since is not None:
            found.append((since, self.end_ms))
        return found


class DryRunner:
    """Fulfils ``ports.DryRuns``: reads what is stored, and evaluates one dry run at a time."""

    def __init__(self, store: MeasurementReader, series_index: SeriesIndex, rules: Rules) -> None:
        self._store = store
        self._series_index = series_index
        self._rules = rules
        self._thread = ThreadPoolExecutor(1, "dry-run")

    def close(self) -> None:
        """Drop dry runs that have not begun; one that has is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def run(
        self, project_id: str, expression: Expression, start_ms: int, end_ms: int
    ) -> DryRun:
        """What an alarm with this expression would have done. Raises INVALID for too much data."""
        found: dict[int, Series] = {}
        longest_ms = 0
        for each in subexpressions(expression):
            metric = each.metric
            longest_ms = max(longest_ms, each.period_s * each.times * 1000)
            matching = self._series_index.select(
                project_id, metric.namespace, dict(metric.dimensions)
            )
            found.update((s.id, s) for s in matching)
        rows = len(found) * (end_ms - start_ms + longest_ms) // MINUTE_MS
        if rows > MOST_ROWS:
            raise Invalid(
                f"expression: it matches {len(found)} series; a dry run over that time would read "
                f"up to {rows} measurements, and {MOST_ROWS} are allowed.",
                details="Name more dimensions, or choose a shorter time.",
            )
        batch = await self._store.read(sorted(found), start_ms - longest_ms, end_ms)
        return await asyncio.get_running_loop().run_in_executor(
            self._thread,
            lambda: dry_run(expression, batch, found.values(), start_ms, end_ms, self._rules),
        )


def dry_run(
    expression: Expression,
    batch: Batch,
    series: Iterable[Series],
    start_ms: int,
    end_ms: int,
    rules: Rules,
    progress: Callable[[float], None] = lambda _: None,
) -> DryRun:
    """Evaluate an expression at every whole minute in [start, end], over measurements of the
    series that its metrics match.

    Measurements from before ``start_ms`` fill the first windows. ``progress`` is called with the
    fraction that is done, 0 to 1.
    """
    known = list(series)
    project_id = known[0].project_id if known else ""
    order = np.argsort(batch.timestamp, kind="stable")
    batch = Batch(batch.series[order], batch.timestamp[order], batch.value[order])
    first = -(-start_ms // MINUTE_MS)
    last = end_ms // MINUTE_MS

    engine = Engine(rules)
    engine.add(
        [Watched(_ID, project_id, expression)],
        lambda _, namespace, dimensions: [
            s
            for s in known
            if s.namespace == namespace and dimensions.items() <= dict(s.dimensions).items()
        ],
        first * MINUTE_MS,
    )
    minute_of = batch.timestamp // MINUTE_MS
    ends = np.searchsorted(minute_of, np.arange(first, last + 1), side="left")
    engine.fill(_slice(batch, 0, int(ends[0]) if len(ends) else 0))
    engine.filled()
    engine.restore(b"", (first - 1) * MINUTE_MS)
    transitions: list[Transition] = []
    values: list[list[float | None]] = [[] for _ in subexpressions(expression)]
    done = int(ends[0]) if len(ends) else 0
    for minute, end in zip(range(first, last + 1), ends.tolist(), strict=True):
        if end > done:
            arrived = _slice(batch, done, end)
            # A minute's measurements arrive together, at the time of the newest.
            transitions += engine.take(arrived, int(arrived.timestamp[-1]))
            done = end
        at_ms = minute * MINUTE_MS
        transitions += engine.evaluate(at_ms, at_ms)
        for each, value in zip(values, engine.values_of(_ID, at_ms), strict=True):
            each.append(value)
        if minute % 1440 == 0:
            progress((minute - first) / (last - first + 1))
    progress(1.0)
    minutes = [m * MINUTE_MS for m in range(first, last + 1)]
    return DryRun(start_ms, end_ms, transitions, minutes, values)


def _slice(batch: Batch, first: int, end: int) -> Batch:
    return Batch(batch.series[first:end], batch.timestamp[first:end], batch.value[first:end])
