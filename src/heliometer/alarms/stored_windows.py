"""Stored measurements for windows that are new: of a new alarm, or after a restart."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from heliometer.alarms.engine.model import Need
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.ports import MeasurementReader
from heliometer.metrics.series_index import SeriesIndex
from heliometer.metrics.statistics import MINUTE_MS
from heliometer.metrics.validation import FUTURE_MS

log = logging.getLogger(__name__)

FILL_ROWS = 20_000_000
"""Measurements, at one a minute and series, that are read at most at a time; what is older stays
unknown to the new windows."""
SERIES_PER_READ = 10_000


class StoredWindows:
    """Reads what an engine needs to fill new windows."""

    def __init__(self, store: MeasurementReader, series_index: SeriesIndex) -> None:
        self._store = store
        self._series_index = series_index

    def select(
        self, project_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> Sequence[Series]:
        """The known series of a project and namespace that have at least these dimensions."""
        return self._series_index.select(project_id, namespace, dimensions)

    async def read(self, need: Need, now_ms: int) -> AsyncIterator[Batch]:
        """The measurements in pieces that fit into memory. Raises UNAVAILABLE."""
        end = now_ms + FUTURE_MS + 1
        minutes = max(1, (end - need.since_ms) // MINUTE_MS)
        for first in range(0, len(need.series), SERIES_PER_READ):
            series = need.series[first : first + SERIES_PER_READ].tolist()
            most_ms = max(1, FILL_ROWS // len(series)) * MINUTE_MS
            if minutes * MINUTE_MS > most_ms:
                log.warning("alarms over many series see only the latest part of their history")
            yield await self._store.read(series, max(need.since_ms, end - most_ms), end)
