"""The meters of each project by the fields that they can be asked for."""

import asyncio
from array import array
from contextlib import suppress

from heliometer.core.errors import HeliometerError
from heliometer.meters.model import (
    DEFAULT_TYPE,
    KNOWN,
    RESOURCE_NAME,
    CustomMeter,
    Kind,
    Meter,
    name_of,
    resource_of,
)
from heliometer.meters.ports import MeterStore
from heliometer.metrics.model import Dimensions, Series
from heliometer.metrics.series_index import Name, SeriesIndex

MANY = 20_000
"""With more new series than this, an index is built in a thread."""


class ProjectIndex:
    """The series of one project by the values of their fields. It only grows."""

    def __init__(self) -> None:
        self.seen = 0
        """How many of the project's series are in the index."""
        self.ids = array("q")
        self.by: dict[str, dict[str, array[int]]] = {
            field: {} for field in ("name", "resource_id", "resource_name", "namespace", "type")
        }

    def add(self, series: Series, kind: Kind) -> None:
        """Add a series under the values of its fields."""
        self.ids.append(series.id)
        values = {
            "name": name_of(series),
            "resource_id": resource_of(series),
            "namespace": series.namespace,
            "type": kind.type,
        }
        resource_name = dict(series.dimensions).get(RESOURCE_NAME)
        if resource_name is not None:
            values["resource_name"] = resource_name
        for field, value in values.items():
            self.by[field].setdefault(value, array("q")).append(series.id)


class MeterIndex:
    """The indexes of the projects that were asked for."""

    def __init__(self, store: MeterStore, series_index: SeriesIndex) -> None:
        self._store = store
        self._series_index = series_index
        self._indexes: dict[str, ProjectIndex] = {}
        self._custom: dict[str, dict[tuple[str, Dimensions], CustomMeter]] = {}
        """Custom meters by the namespace and dimensions of their series."""

    def forget(self, project_id: str) -> None:
        """Read a project's custom meters again when they are needed; of all projects if empty."""
        if project_id:
            self._custom.pop(project_id, None)
            self._indexes.pop(project_id, None)
        else:
            self._custom.clear()
            self._indexes.clear()

    def rebuild(self, project_id: str) -> None:
        """Build a project's index anew: series that it has may have become custom meters."""
        self._indexes.pop(project_id, None)

    def meter(self, series: Series) -> Meter:
        """A series as a meter. Its project must have been asked for."""
        custom = self._custom.get(series.project_id, {}).get((series.namespace, series.dimensions))
        name, resource = name_of(series), resource_of(series)
        if custom is not None:
            return Meter(series, name, resource, custom.type, custom.unit, custom.display_name)
        kind = KNOWN.get((series.namespace, name), Kind(DEFAULT_TYPE, ""))
        return Meter(series, name, resource, kind.type, kind.unit, name)

    async def custom(self, project_id: str) -> dict[tuple[str, Dimensions], CustomMeter]:
        """The project's custom meters, by namespace and dimensions."""
        while project_id not in self._custom:  # it may be forgotten meanwhile
            await self.project(project_id)
        return self._custom[project_id]

    async def project(self, project_id: str) -> ProjectIndex:
        """The project's index, up to date."""
        if project_id not in self._custom:
            custom = await self._store.list_meters(project_id)
            self._custom[project_id] = {(m.namespace, m.dimensions): m for m in custom}
            # Their series may have been removed because they have no measurements any more.
            with suppress(HeliometerError):  # the project has reached its limit of series
                names = [Name(m.namespace, m.dimensions) for m in custom]
                self._series_index.intern(project_id, names)
        index = self._indexes.get(project_id)
        if index is None:
            index = self._indexes[project_id] = ProjectIndex()
        missing = len(self._series_index.project(project_id).ids) - index.seen
        if missing > MANY:
            fresh = ProjectIndex()
            await asyncio.to_thread(self._extend, fresh, project_id)
            self._indexes[project_id] = index = fresh
        self._extend(index, project_id)
        return index

    def _extend(self, index: ProjectIndex, project_id: str) -> None:
        ids = self._series_index.project(project_id).ids
        for series_id in ids[index.seen : len(ids)]:
            meter = self.meter(self._series_index[series_id])
            index.add(meter.series, Kind(meter.type, meter.unit))
            index.seen += 1
