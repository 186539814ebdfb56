"""The last hours of what an alarm watches, for the picture in its message."""

import numpy as np

from heliometer.alarms.expression import Subexpression, parse
from heliometer.metrics.model import Aggregation
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex
from heliometer.notifications.model import Delivery
from heliometer.notifications.picture import Chart

BEFORE_MS = 6 * 3_600_000
STEPS = 360
SERIES = 200
"""Series beyond which no picture is drawn."""
MINUTE_MS = 60_000


class Charts:
    """Reads the store for each picture."""

    def __init__(self, store: MeasurementReader, series_index: SeriesIndex) -> None:
        self._store = store
        self._series_index = series_index

    async def of(self, delivery: Delivery) -> Chart | None:
        """The subexpression that counted most, up to the transition; ``None``: nothing to draw."""
        findings = delivery.payload["reason"]["findings"]
        said = next((f for f in findings if f["truth"]), findings[0] if findings else None)
        part = parse(said["text"]) if said else None
        if not isinstance(part, Subexpression):
            return None
        metric = part.metric
        series = self._series_index.select(
            delivery.project_id, metric.namespace, dict(metric.dimensions)
        )
        if not 0 < len(series) <= SERIES:
            return None
        period = max(part.period_s * 1000, BEFORE_MS // STEPS)
        end = -(-delivery.payload["at_ms"] // period) * period
        start = end - max(BEFORE_MS // period, 12) * period
        found = await self._store.aggregate(
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
