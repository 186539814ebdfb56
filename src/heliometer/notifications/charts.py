"""The last hours of what an alarm watches, for the chart in its message."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from heliometer.alarms.expression import Subexpression, parse
from heliometer.metrics.model import Aggregation, Series
from heliometer.metrics.ports import MeasurementReader
from heliometer.notifications.chart_image import Chart
from heliometer.notifications.model import Delivery

BEFORE_MS = 6 * 3_600_000
STEPS = 360
SERIES = 200
"""Series beyond which no chart is drawn."""


class SeriesSelection(Protocol):
    """Finds the series that an alarm watches."""

    def select(
        self, project_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> Sequence[Series]:
        """A project's series of the namespace that have the dimensions."""
        ...


class Charts:
    """Makes the chart of a delivery when it is sent."""

    def __init__(self, measurements: MeasurementReader, series: SeriesSelection) -> None:
        self._measurements = measurements
        self._series = series

    async def of(self, delivery: Delivery) -> Chart | None:
        """The subexpression that decided, up to the transition; ``None``: nothing to draw."""
        findings = delivery.payload["reason"]["findings"]
        said = next((f for f in findings if f["truth"]), findings[0] if findings else None)
        part = parse(said["text"]) if said else None
        if not isinstance(part, Subexpression):
            return None
        metric = part.metric
        series = self._series.select(delivery.project_id, metric.namespace, dict(metric.dimensions))
        if not 0 < len(series) <= SERIES:
            return None
        period = max(part.period_s * 1000, BEFORE_MS // STEPS)
        end = -(-delivery.payload["at_ms"] // period) * period
        start = end - max(BEFORE_MS // period, 12) * period
        found = await self._measurements.aggregate(
            Aggregation([s.id for s in series], start, end, period, ("sum", "count", "min", "max"))
        )
        at = (found.timestamp - start) // period
        steps = (end - start) // period
        count = np.bincount(at, found.columns["count"].astype(float), steps)
        function = part.effective_function
        if function in ("min", "max"):
            edge = np.inf if function == "min" else -np.inf
            values = np.full(steps, edge)
            extreme = np.minimum if function == "min" else np.maximum
            extreme.at(values, at, found.columns[function].astype(float))
        elif function == "count":
            values = count
        else:
            values = np.bincount(at, found.columns["sum"].astype(float), steps)
            if function == "avg":
                values = values / np.maximum(count, 1)
        known = count > 0
        return Chart(
            [float(v) if k else None for v, k in zip(values, known, strict=True)],
            part.threshold,
            part.operator in (">", ">="),
        )
