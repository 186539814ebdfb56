"""Meters: a project's series as Telemetry v2 sees them, and the meters that tenants make."""

import asyncio
import re
import uuid
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from heliometer.config import LimitSettings
from heliometer.core.errors import HeliometerError, Malformed
from heliometer.core.keyed_lock import KeyedLock
from heliometer.identity.model import Caller, Permission
from heliometer.meters.model import (
    CUSTOM_NAMESPACE,
    DEFAULT_TYPE,
    KNOWN,
    RESOURCE_NAME,
    TYPES,
    CustomMeter,
    Kind,
    Put,
    Quota,
    meter_id,
    name_of,
    read_meter_id,
    resource_of,
)
from heliometer.meters.ports import MeterStore
from heliometer.metrics.model import Batch, Dimensions, Series
from heliometer.metrics.ports import Writing
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.metrics.validation import FUTURE_MS, PAST_MS, RESERVED_PREFIX
from heliometer.projects.ports import ProjectStore

SETTLE_MS = 60_000
"""A new custom meter takes samples after this (002, Response Code)."""
MANY = 20_000
"""Series from which on an index is built in a thread."""


class Meter(NamedTuple):
    """One series, with what is known of it."""

    series: Series
    name: str
    resource_id: str
    type: str
    unit: str
    display_name: str

    @property
    def id(self) -> str:
        """Its id (004, Sample Response)."""
        return meter_id(self.resource_id, self.name)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a request to create a custom meter, or to put a sample into it."""

    name: str
    resource_id: str
    namespace: str | None
    type: str
    unit: str
    display_name: str
    volume: float | None
    recorded_ms: int


class _Index:
    """The series of one project by what they may be asked for. Only grows, until it is dropped."""

    def __init__(self) -> None:
        self.seen = 0
        """Series of the project that are in it."""
        self.ids = array("q")
        self.by: dict[str, dict[str, array[int]]] = {
            field: {} for field in ("name", "resource_id", "resource_name", "namespace", "type")
        }

    def add(self, series: Series, kind: Kind) -> None:
        """Take in a series."""
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


class Meters:
    """The meters of the caller's project (004, 002)."""

    def __init__(
        self,
        store: MeterStore,
        series_index: SeriesIndex,
        writer: Writing,
        projects: ProjectStore,
        limits: LimitSettings,
        clock: Callable[[], float],
        announce: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """``announce`` tells other processes of a project whose custom meters are others."""
        self._store = store
        self._series_index = series_index
        self._writer = writer
        self._announce = announce
        self._projects = projects
        self._limits = limits
        self._clock = clock
        self._indexes: dict[str, _Index] = {}
        self._custom: dict[str, dict[tuple[str, Dimensions], CustomMeter]] = {}
        """Custom meters by what their series are called, of projects that were asked for."""
        self._turns = KeyedLock()

    def forget(self, project_id: str = "") -> None:
        """What is known of a project's meters, or of all, may be known no longer."""
        if project_id:
            self._custom.pop(project_id, None)
            self._indexes.pop(project_id, None)
        else:
            self._custom.clear()
            self._indexes.clear()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._clock() * 1000)

    def meter(self, series: Series) -> Meter:
        """What is known of a series of a project whose meters were asked for."""
        custom = self._custom.get(series.project_id, {}).get((series.namespace, series.dimensions))
        name, resource = name_of(series), resource_of(series)
        if custom is not None:
            return Meter(series, name, resource, custom.type, custom.unit, custom.display_name)
        kind = KNOWN.get((series.namespace, name), Kind(DEFAULT_TYPE, ""))
        return Meter(series, name, resource, kind.type, kind.unit, name)

    async def select(self, caller: Caller, wanted: Mapping[str, str]) -> Sequence[int]:
        """The ids of the series of all meters that have these values, in the order in which they
        appeared. Fields are those of 004, "Valid query fields"."""
        project_id = caller.project_id
        index = await self._index(project_id)
        fields = dict(wanted)
        if "meter_id" in fields:
            found = read_meter_id(fields.pop("meter_id"))
            if found is None:
                return array("q")
            for field, value in zip(("resource_id", "name"), found, strict=True):
                if fields.setdefault(field, value) != value:
                    return array("q")
        lists = [index.by[field].get(value, array("q")) for field, value in fields.items()]
        if not lists:
            return index.ids
        shortest = min(lists, key=len)
        others = [(f, v) for (f, v), ids in zip(fields.items(), lists, strict=True)
                  if ids is not shortest]  # fmt: skip
        if not others:
            return shortest
        return array("q", (i for i in shortest if self._has(i, others)))

    def meters(self, ids: Iterable[int]) -> list[Meter]:
        """The meters of these series."""
        return [self.meter(self._series_index[i]) for i in ids]

    async def put(self, caller: Caller, items: Sequence[Item]) -> list[CustomMeter]:
        """Create the custom meters that are new, and put the samples into the others: all or
        nothing; durable when it returns. Gives the meter of each item.

        Raises MALFORMED with the documented messages (002, Response Code).
        """
        now, project_id = self.now_ms(), caller.project_id
        async with self._turns.of(project_id):
            known = await self._known(project_id)
            if self._announce is not None and not _all_known(items, known):
                self.forget(project_id)  # another process may have made them
                known = await self._known(project_id)
            new: dict[tuple[str, Dimensions], CustomMeter] = {}
            meters: list[CustomMeter] = []
            samples: list[tuple[CustomMeter, Item]] = []
            for item in items:
                meter = self._made(project_id, item, now)
                if item.namespace is None:
                    # Whose namespace was said once need not have it said again.
                    same = (m for m in (*known.values(), *new.values())
                            if m.dimensions == meter.dimensions)  # fmt: skip
                    meter = next(same, meter)
                key = meter.namespace, meter.dimensions
                if key in known:
                    meter = known[key]
                    if item.volume is not None:
                        samples.append((meter, item))
                else:
                    self._check_namespace(caller, meter.namespace)
                    meter = new.setdefault(key, meter)
                meters.append(meter)
            if any(now - meter.created_ms < SETTLE_MS for meter, _ in samples):
                raise Malformed("Custom meters failed to send samples.")
            await self._take(caller, list(new.values()), samples, now)
            known.update(new)
            if new:
                # A series may have been there before its meter was made.
                self._indexes.pop(project_id, None)
                if self._announce is not None:
                    await self._announce(project_id)
        return meters

    async def _take(
        self,
        caller: Caller,
        new: list[CustomMeter],
        samples: list[tuple[CustomMeter, Item]],
        now: int,
    ) -> None:
        project_id = caller.project_id
        numbers: dict[str, int] = {}
        for meter, _ in samples:
            numbers[meter.id] = numbers.get(meter.id, 0) + 1
        puts = [Put(*each) for each in numbers.items()]
        premium = await self._projects.monitoring_level(project_id) == "premium"
        quota = Quota(
            self._limits.custom_meters_per_project,
            self._limits.active_meters_premium if premium else self._limits.active_meters_basic,
            self._limits.samples_per_meter_and_day,
        )
        if new or puts:
            await self._store.take(project_id, new, puts, quota, now, caller.user_name)
        try:
            names = [Name(m.namespace, m.dimensions) for m in (*new, *(m for m, _ in samples))]
            ids = self._series_index.intern(project_id, names)
            if samples:
                await self._writer.write(
                    Batch(
                        np.array(
                            [ids[Name(m.namespace, m.dimensions)] for m, _ in samples], np.int64
                        ),
                        np.array([item.recorded_ms for _, item in samples], np.int64),
                        np.array([item.volume for _, item in samples], np.float64),
                    )
                )
        except HeliometerError:
            await self._store.give_back(new, puts)
            raise

    def _made(self, project_id: str, item: Item, now: int) -> CustomMeter:
        namespace = item.namespace
        if namespace is None:
            # "such as <namespace>_<UUID>" (002, resource_id)
            prefix, sign, rest = item.resource_id.partition("_")
            namespace = prefix if sign and rest and _IS_NAME(prefix) else CUSTOM_NAMESPACE
        return CustomMeter(
            str(uuid.uuid4()),
            project_id,
            namespace,
            item.resource_id,
            item.name,
            item.type,
            item.unit,
            item.display_name,
            now,
        )

    def _check_namespace(self, caller: Caller, namespace: str) -> None:
        if (
            namespace.startswith(RESERVED_PREFIX)
            and Permission.POST_RESERVED not in caller.permissions
        ):
            raise Malformed("Invalid namespace.")

    def _has(self, series_id: int, wanted: Iterable[tuple[str, str]]) -> bool:
        meter = self.meter(self._series_index[series_id])
        for field, value in wanted:
            if field == "namespace":
                given = meter.series.namespace
            elif field == "resource_name":
                given = dict(meter.series.dimensions).get(RESOURCE_NAME, "")
            else:
                given = getattr(meter, field)
            if given != value:
                return False
        return True

    async def _known(self, project_id: str) -> dict[tuple[str, Dimensions], CustomMeter]:
        """The project's custom meters."""
        while project_id not in self._custom:  # it may be forgotten again meanwhile
            await self._index(project_id)
        return self._custom[project_id]

    async def _index(self, project_id: str) -> _Index:
        """The project's index, up to date."""
        if project_id not in self._custom:
            custom = await self._store.list_meters(project_id)
            self._custom[project_id] = {(m.namespace, m.dimensions): m for m in custom}
            # Their series may have been forgotten, having no measurements any more.
            with suppress(HeliometerError):  # the project has as many series as it may
                names = [Name(m.namespace, m.dimensions) for m in custom]
                self._series_index.intern(project_id, names)
        index = self._indexes.get(project_id)
        if index is None:
            index = self._indexes[project_id] = _Index()
        missing = len(self._series_index.project(project_id).ids) - index.seen
        if missing > MANY:
            fresh = _Index()
            await asyncio.to_thread(self._extend, fresh, project_id)
            self._indexes[project_id] = index = fresh
        self._extend(index, project_id)
        return index

    def _extend(self, index: _Index, project_id: str) -> None:
        ids = self._series_index.project(project_id).ids
        for series_id in ids[index.seen : len(ids)]:
            meter = self.meter(self._series_index[series_id])
            index.add(meter.series, Kind(meter.type, meter.unit))
            index.seen += 1


_IS_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}").fullmatch


def _all_known(items: Sequence[Item], known: Mapping[tuple[str, Dimensions], CustomMeter]) -> bool:
    """Whether every item has a meter of its name and resource."""
    names = {(m.name, m.resource_id) for m in known.values()}
    return all((item.name, item.resource_id) in names for item in items)


def check_type(type_: str) -> None:
    """Raise MALFORMED unless it is a meter's type."""
    if type_ not in TYPES:
        raise Malformed("Invalid counter_type.")


def check_recorded(recorded_ms: int, now_ms: int) -> None:
    """Raise MALFORMED unless measurements of that time are taken."""
    if not now_ms - PAST_MS <= recorded_ms <= now_ms + FUTURE_MS:
        raise Malformed("Invalid recorded_at.")
