"""The series that the shared store has, as far as this process knows."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import SeriesStored
from heliometer.metrics.model import Series
from heliometer.metrics.series_ids import SeriesIds
from heliometer.metrics.series_index import Name, SeriesIndex

MARGIN_MS = 120_000
"""Allowance for the difference of two processes' clocks and the duration of a commit."""
ANNOUNCED_AT_ONCE = 5000


class Store(Protocol):
    """Reads the stored series, with shared ids."""

    async def load_series(self) -> list[Series]:
        """All series of the store."""
        ...

    async def series_since(self, at_ms: int) -> list[Series]:
        """The series added since then."""
        ...


class SeriesCatalog:
    """Keeps this process's series index in step with the series of the store."""

    def __init__(
        self,
        store: Store,
        series_index: SeriesIndex,
        ids: SeriesIds,
        bus: EventBus,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._series_index = series_index
        self._ids = ids
        self._bus = bus
        self._clock = clock
        self._stored: set[int] = set()
        self._read_ms = 0
        self._reading = asyncio.Lock()
        bus.on(SeriesStored, self._heard)
        bus.on_connect(self.refresh)

    async def refresh(self) -> None:
        """Read the series stored since the last call. Raises UNAVAILABLE."""
        async with self._reading:
            now_ms = int(self._clock() * 1000)
            if self._read_ms:
                found = await self._store.series_since(self._read_ms)
            else:
                found = await self._store.load_series()
            self._series_index.adopt(found)
            self._stored.update(s.id for s in found)
            self._read_ms = now_ms - MARGIN_MS

    def bring(self, series: Iterable[Series]) -> list[Series]:
        """Register a message's series before its measurements are stored. Returns the series that
        the store does not have, with this process's ids."""
        missing = [s for s in series if s.id not in self._stored]
        if not missing:
            return []
        self._series_index.adopt(missing)
        found = []
        for each in missing:
            name = Name(each.namespace, each.dimensions)
            number = self._series_index.project(each.project_id).get(name)
            assert number is not None
            found.append(self._series_index[number])
        return found

    def stored(self, series: Iterable[Series]) -> None:
        """Tell all processes that the store has these series now."""
        each = list(series)
        numbers = np.array([s.id for s in each], np.int64)
        shared = [
            s._replace(id=i)
            for s, i in zip(each, self._ids.to_shared(numbers).tolist(), strict=True)
        ]
        self._stored.update(s.id for s in shared)
        for first in range(0, len(shared), ANNOUNCED_AT_ONCE):
            self._bus.send(SeriesStored(shared[first : first + ANNOUNCED_AT_ONCE]))

    def _heard(self, event: SeriesStored) -> None:
        self._series_index.adopt(event.series)
        self._stored.update(s.id for s in event.series)
