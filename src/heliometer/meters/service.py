"""Meters: a project's series as Telemetry v2 sees them, and the meters that tenants make."""

import re
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from heliometer.config import LimitSettings
from heliometer.core.aside import aside
from heliometer.core.errors import HeliometerError, Malformed
from heliometer.core.keyed_lock import KeyedLock
from heliometer.identity.model import Caller, Permission
from heliometer.meters.meter_index import MeterIndex
from heliometer.meters.model import (
    CUSTOM_NAMESPACE,
    RESOURCE_NAME,
    CustomMeter,
    Item,
    Meter,
    Put,
    Quota,
    read_meter_id,
)
from heliometer.meters.ports import MeterPeers, MeterStore
from heliometer.metrics.model import Batch, Dimensions, Series
from heliometer.metrics.ports import MeasurementTransport
from heliometer.metrics.series_index import Name, SeriesIndex
from heliometer.metrics.validation import RESERVED_PREFIX
from heliometer.projects.ports import ProjectStore

SETTLE_MS = 60_000
"""How long after its creation a custom meter takes samples (002, Response Code)."""


class Meters:
    """The meters of the caller's project (004, 002)."""

    def __init__(
        self,
        store: MeterStore,
        series_index: SeriesIndex,
        writer: MeasurementTransport,
        projects: ProjectStore,
        limits: LimitSettings,
        clock: Callable[[], float],
        peers: MeterPeers,
    ) -> None:
        self._store = store
        self._series_index = series_index
        self._writer = writer
        self._peers = peers
        self._projects = projects
        self._limits = limits
        self._clock = clock
        self._index = MeterIndex(store, series_index)
        self._locks = KeyedLock()

    def forget(self, project_id: str = "") -> None:
        """Read a project's custom meters again when they are needed; of all projects if empty."""
        self._index.forget(project_id)

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._clock() * 1000)

    def meter(self, series: Series) -> Meter:
        """A series as a meter. Its project must have been asked for."""
        return self._index.meter(series)

    async def select(self, caller: Caller, wanted: Mapping[str, str]) -> Sequence[int]:
        """The series ids of all meters with these values, in the order of their first appearance.
        Fields are those of 004, "Valid query fields"."""
        project_id = caller.project_id
        index = await self._index.project(project_id)
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
        return await aside(
            len(shortest), lambda: array("q", (i for i in shortest[:] if self._has(i, others)))
        )

    def meters(self, ids: Iterable[int]) -> Iterator[Meter]:
        """The meters of these series, each made when it is its turn."""
        return (self.meter(self._series_index[i]) for i in ids)

    async def put(self, caller: Caller, items: Sequence[Item]) -> list[CustomMeter]:
        """Create the new custom meters and store the samples of the others, all or nothing; return
        the meter of each item when it is durable.

        Raises MALFORMED with the documented messages (002, Response Code).
        """
        now, project_id = self.now_ms(), caller.project_id
        async with self._locks.of(project_id):
            known = await self._index.custom(project_id)
            if self._peers.any and not _all_known(items, known):
                self.forget(project_id)  # another process may have created them
                known = await self._index.custom(project_id)
            new: dict[tuple[str, Dimensions], CustomMeter] = {}
            meters: list[CustomMeter] = []
            samples: list[tuple[CustomMeter, Item]] = []
            for item in items:
                meter = self._made(project_id, item, now)
                if item.namespace is None:
                    # The namespace of an existing meter need not be given again.
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
                # A series may have existed before its meter was created.
                self._index.rebuild(project_id)
                await self._peers.meters_changed(project_id)
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


_IS_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}").fullmatch


def _all_known(items: Sequence[Item], known: Mapping[tuple[str, Dimensions], CustomMeter]) -> bool:
    """Whether every item has a meter of its name and resource."""
    names = {(m.name, m.resource_id) for m in known.values()}
    return all((item.name, item.resource_id) in names for item in items)
