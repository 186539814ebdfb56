"""Metrics: post measurements, query statistics, list series."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np

from heliometer.config import LimitSettings
from heliometer.core.aside import aside
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.model import Caller, Permission
from heliometer.metrics.columns import Columns, Measured, of_known
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import NO_DATA, Aggregation, Batch, Series
from heliometer.metrics.ports import MeasurementReader, MeasurementTransport
from heliometer.metrics.queries import Query, Statistics, check_query, check_size
from heliometer.metrics.receipts import Receipt, ReceiptKind
from heliometer.metrics.series_index import Name, ProjectSeries, SeriesIndex
from heliometer.metrics.series_search import complete, list_series
from heliometer.metrics.statistics import MINUTE_MS
from heliometer.metrics.validation import FUTURE_MS
from heliometer.projects.ports import ProjectStore

NEW_AT_ONCE = 2_000
"""So many series are made in a few milliseconds."""
RECENT_SERIES = 20_000
"""So many series' recent measurements are counted in a few milliseconds."""


@dataclass(frozen=True, slots=True)
class SeriesUsage:
    """How many series a project has and may have, and its namespaces."""

    series: int
    limit: int
    namespaces: tuple[str, ...]


class Metrics:
    """Posts and queries within the caller's project."""

    def __init__(
        self,
        store: MeasurementReader,
        series_index: SeriesIndex,
        writer: MeasurementTransport,
        receipts: Receipts,
        projects: ProjectStore,
        limits: LimitSettings,
        retention_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._series_index = series_index
        self._writer = writer
        self._receipts = receipts
        self._projects = projects
        self._limits = limits
        self._kept_ms = (retention_days + 1) * 86_400_000
        self._clock = clock

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._clock() * 1000)

    async def target(self, caller: Caller, named: str | None) -> ProjectSeries:
        """The series of the project to post to: the caller's own, or the one that an agent names.
        Raises FORBIDDEN or NOT_FOUND."""
        if named is None or named == caller.project_id:
            return self._series_index.project(caller.project_id)
        caller.require(Permission.POST_ELSEWHERE)
        if not await self._projects.project_exists(named):
            raise HeliometerError(
                Code.NOT_FOUND,
                "X-Tenant-Id: there is no such project.",
                details="Give the project's id, 32 hexadecimal digits.",
            )
        return self._series_index.project(named)

    async def post(
        self, project: ProjectSeries, columns: Columns, receipt: Receipt | None = None
    ) -> None:
        """Store the measurements; return when they are durable."""
        if not len(columns.value):
            return
        if receipt is not None:
            await self._receipts.once(receipt, lambda r: self._post(project, columns, r))
        else:
            await self._post(project, columns, None)

    async def push(
        self, project: ProjectSeries, columns: Columns, body: bytes | None, where: str
    ) -> tuple[int, str]:
        """Store a pushed request; return when it is durable.

        Programs repeat a request whose response was lost, byte by byte: within ``PUSH_LIFE_MS``
        the same ``body`` is stored once for each ``where``. Pass ``None`` if a repetition is meant
        as such. In a project that has reached its limit of series, samples of existing series are
        stored; the result is how many samples were not, and why.
        """
        try:
            return await self._push(project, columns, body, where)
        except HeliometerError as error:
            if error.code is not Code.RATE_LIMITED:
                raise
            known = of_known(columns, project)
            left_out = len(columns.value) - len(known.value)
            await self._push(project, known, body, where)
            return left_out, f"{error.message} {error.details}".strip()

    async def _push(
        self, project: ProjectSeries, columns: Columns, body: bytes | None, where: str
    ) -> tuple[int, str]:
        receipt = None
        if body is not None:
            digest = hashlib.blake2b(body, digest_size=16, key=where.encode()[:64]).digest()
            receipt = Receipt(
                project.project_id, digest.hex(), digest, self.now_ms(), ReceiptKind.PUSH
            )
        await self.post(project, columns, receipt)
        return 0, ""

    async def post_collected(self, project_id: str, measured: Sequence[Measured]) -> None:
        """Store collected values; return when they are durable."""
        await self._writer.write(self.batch_collected(project_id, measured))

    def batch_collected(self, project_id: str, measured: Sequence[Measured]) -> Batch:
        """Collected values as a batch for ``store``. Raises RATE_LIMITED for too many series."""
        names = [Name(m.namespace, tuple(sorted(m.dimensions.items()))) for m in measured]
        ids = self._series_index.intern(project_id, names)
        return Batch(
            np.array([ids[name] for name in names], dtype=np.int64),
            np.array([m.timestamp_ms for m in measured], dtype=np.int64),
            np.array([m.value for m in measured], dtype=np.float64),
        )

    def known(self, project_id: str, names: Iterable[Name]) -> set[Name]:
        """Those of the names whose series the project has already."""
        project = self._series_index.project(project_id)
        return {name for name in names if project.get(name) is not None}

    async def store(self, batches: Sequence[Batch], receipt: Receipt | None) -> None:
        """Store measurements of several projects, all or nothing."""

        async def write(given: Receipt | None) -> None:
            await self._writer.write(Batch.concatenate(batches), given)

        if not sum(map(len, batches)):
            return
        if receipt is not None:
            await self._receipts.once(receipt, write)
        else:
            await write(None)

    async def _post(
        self, project: ProjectSeries, columns: Columns, receipt: Receipt | None
    ) -> None:
        await self._writer.write(await self.batch(project, columns), receipt)

    async def batch(self, project: ProjectSeries, columns: Columns) -> Batch:
        """A decoded request as a batch for ``store``. Raises RATE_LIMITED for too many series."""
        if columns.names:
            names = [name for name, _ in columns.names.values()]
            if len(names) <= NEW_AT_ONCE:
                ids = self._series_index.intern(project.project_id, names)
            else:
                ids = await self._intern_many(project.project_id, names)
            for position, (name, spelling) in columns.names.items():
                columns.series[position] = ids[name]
                if spelling is not None:
                    project.learn(name.namespace, spelling, ids[name], columns.form)
        series = np.array(columns.series, dtype=np.int64)
        if columns.repeats is not None:
            series = np.repeat(series, columns.repeats)
        return Batch(series, columns.timestamp, columns.value)

    async def _intern_many(self, project_id: str, names: Sequence[Name]) -> dict[Name, int]:
        """The same as ``SeriesIndex.intern``, while others have their turns."""
        self._series_index.check_room(project_id, names)
        ids: dict[Name, int] = {}
        for at in range(0, len(names), NEW_AT_ONCE):
            ids |= self._series_index.intern(project_id, names[at : at + NEW_AT_ONCE])
            await asyncio.sleep(0)
        return ids

    async def query(self, caller: Caller, query: Query) -> Statistics:
        """One result for each series that has data, ordered by dimensions.

        Raises MALFORMED for a query that makes no sense or has too large an answer.
        """
        check_query(query)
        series = await self._selected(caller, query)
        now_ms = self.now_ms()
        check_size(query, len(series), self._limits, now_ms - self._kept_ms, now_ms + FUTURE_MS)
        if not series:
            return Statistics(NO_DATA, [], ())
        found = await self._store.aggregate(
            Aggregation(
                [s.id for s in series],
                query.start_ms,
                query.end_ms,
                query.period_s * 1000,
                query.statistics,
            )
        )
        return Statistics(found, series, query.statistics)

    async def _selected(self, caller: Caller, query: Query) -> list[Series]:
        """The series of a query, ordered by dimensions unless they are too many."""
        index, project_id = self._series_index, caller.project_id
        name = query.namespace, query.dimensions
        most = query.most or self._limits.series_per_query

        def select() -> list[Series]:
            found = index.matching(project_id, *name)
            if query.most:
                return nsmallest(most, found, key=lambda s: s.dimensions)
            every = list(found)
            if len(every) <= most:
                every.sort(key=lambda s: s.dimensions)
            return every

        return await aside(len(index.project(project_id).candidates(*name)), select)

    def usage(self, caller: Caller) -> "SeriesUsage":
        """How many series the project has and may have, and its namespaces."""
        project = self._series_index.project(caller.project_id)
        return SeriesUsage(
            len(project), self._limits.series_per_project, tuple(project.namespaces())
        )

    async def recent(self, caller: Caller) -> float | None:
        """The project's measurements per minute, over the last five whole minutes; ``None`` if
        there are too many series to count."""
        ids = self._series_index.project(caller.project_id).ids
        if len(ids) > RECENT_SERIES:
            return None
        if not ids:
            return 0.0
        end = self.now_ms() // MINUTE_MS * MINUTE_MS
        found = await self._store.aggregate(
            Aggregation(ids, end - 300_000, end, 300_000, ["count"])
        )
        return float(found.columns["count"].sum()) / 5

    def complete(
        self, caller: Caller, namespace: str, chosen: Mapping[str, str], key: str | None, part: str
    ) -> list[tuple[str, int]]:
        """Proposals for the next word of a search: see :func:`series_search.complete`."""
        return complete(self._series_index, caller.project_id, namespace, chosen, key, part)

    async def list_series(
        self,
        caller: Caller,
        namespace: str | None,
        dimensions: Mapping[str, str],
        after: tuple[str, tuple[tuple[str, str], ...]] | None,
        limit: int,
    ) -> list[Series]:
        """A page of the project's series: see :func:`series_search.list_series`."""
        index, project_id = self._series_index, caller.project_id
        return await aside(
            len(index.project(project_id)),
            lambda: list_series(index, project_id, namespace, dimensions, after, limit),
        )
