"""Which series caused a transition, looked up in the store for the few alarms that change."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from heliometer.alarms.expression import Expression, Subexpression, subexpressions
from heliometer.alarms.model import Finding, Outcome, SeriesValue, Transition
from heliometer.core.errors import HeliometerError
from heliometer.metrics.model import Batch, Float64s, Series
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex

log = logging.getLogger(__name__)

SHOWN = 5
"""At most so many series are named by a finding."""
LOOKED_UP = 50
"""At most so many findings over several series are looked up for one outcome; further ones only
give the number of matching series."""
SERIES = 1000
"""With more matching series than this, none is named."""


class Causes:
    """Adds to each finding the series that produced its newest value."""

    def __init__(self, store: MeasurementReader, series_index: SeriesIndex) -> None:
        self._store = store
        self._series_index = series_index

    async def add_to(
        self, outcome: Outcome, watched: Mapping[str, tuple[str, Expression]]
    ) -> Outcome:
        """The outcome with series; ``watched`` maps an alarm's id to its project and expression.
        Series that cannot be looked up are left out: a transition never waits for its details."""
        left = LOOKED_UP
        transitions: list[Transition] = []
        for transition in outcome.transitions:
            known = watched.get(transition.alarm_id)
            findings: list[Finding] = []
            parts = subexpressions(known[1]) if known else []
            for i, finding in enumerate(transition.findings):
                # The alarm may have been given another expression since.
                if known and i < len(parts) and str(parts[i]) == finding.text:
                    found = self._matching(known[0], parts[i])
                    if len(found) == 1:
                        finding = _of_one(finding, found[0])
                    elif 1 < len(found) <= SERIES and left > 0:
                        left -= 1
                        finding = await self._of_many(finding, parts[i], found)
                findings.append(finding)
            transitions.append(replace(transition, findings=tuple(findings)))
        return replace(outcome, transitions=transitions)

    def _matching(self, project_id: str, part: Subexpression) -> list[Series]:
        return self._series_index.select(
            project_id, part.metric.namespace, dict(part.metric.dimensions)
        )

    async def _of_many(
        self, finding: Finding, part: Subexpression, series: list[Series]
    ) -> Finding:
        window = next((w for w in reversed(finding.windows) if w.value is not None), None)
        if window is None:
            return finding
        try:
            batch = await self._store.read([s.id for s in series], window.start_ms, window.end_ms)
        except HeliometerError as error:
            log.warning("the series of a transition cannot be looked up: %s", error.message)
            return finding
        values = _by_series(batch, part.effective_function)
        strongest = sorted(
            (s for s in series if s.id in values),
            key=lambda s: values[s.id],
            reverse=part.operator in (">", ">="),
        )
        return replace(
            finding,
            series=tuple(SeriesValue(dict(s.dimensions), values[s.id]) for s in strongest[:SHOWN]),
        )


def _of_one(finding: Finding, series: Series) -> Finding:
    values = [w.value for w in finding.windows if w.value is not None]
    if not values:
        return finding
    return replace(finding, series=(SeriesValue(dict(series.dimensions), values[-1]),))


def _by_series(batch: Batch, function: str) -> dict[int, float]:
    if not len(batch):
        return {}
    ids, first = np.unique(batch.series, return_index=True)
    count = np.diff(np.append(first, len(batch))).astype(np.float64)
    value: Float64s = batch.value
    with np.errstate(over="ignore"):
        if function in ("max", "min"):
            extreme = np.maximum if function == "max" else np.minimum
            result = extreme.reduceat(value, first)
        elif function == "count":
            result = count
        else:
            result = np.add.reduceat(value, first)
            if function == "avg":
                result = result / count
    return {int(i): float(v) for i, v in zip(ids, result, strict=True)}
