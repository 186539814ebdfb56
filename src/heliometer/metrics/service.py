"""Metrics: post measurements, query statistics, list series."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from heliometer.config import LimitSettings
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Caller, Permission
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import Aggregation, Batch, Float64s, Int64s, Series
from heliometer.metrics.ports import MeasurementReader, Writing
from heliometer.metrics.receipts import Receipt, ReceiptKind
from heliometer.metrics.series_index import Name, ProjectSeries, SeriesIndex
from heliometer.metrics.statistics import STATISTICS
from heliometer.metrics.validation import FUTURE_MS
from heliometer.projects.ports import ProjectStore

MAX_PERIOD_S = 366 * 86_400
RECENT_SERIES = 20_000
"""Whose newest measurements are counted in a few milliseconds."""
COMPLETIONS = 50
"""Proposals in one answer."""
COUNTED = 20_000
"""Series that are looked at for them."""


@dataclass(slots=True)
class Columns:
    """A decoded and validated request, column by column.

    ``series`` holds, for each metric of the request, the id of its series, or ``None`` where the
    spelling was not known; ``names`` says by position what those are, and which spelling of theirs
    to remember. ``repeats`` tells how many
    measurements each metric has, where any has more than one.
    """

    series: list[int | None]
    names: dict[int, tuple[Name, bytes | None]]
    repeats: list[int] | None
    timestamp: Int64s
    value: Float64s
    form: str = ""
    """Whose spellings they are: see ``ProjectSeries.spellings``."""


class Measured(Protocol):
    """One value that a collector read."""

    @property
    def namespace(self) -> str: ...
    @property
    def dimensions(self) -> Mapping[str, str]: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def value(self) -> float: ...


@dataclass(frozen=True, slots=True)
class SeriesStatistics:
    """Statistics of one series."""

    series: Series
    timestamps_s: list[int]
    statistics: Mapping[str, list[float] | list[int]]


@dataclass(frozen=True, slots=True)
class Query:
    """What to compute, over [start, end), by periods aligned to multiples since the epoch."""

    namespace: str
    dimensions: Mapping[str, str]
    statistics: Sequence[str]
    start_ms: int
    end_ms: int
    period_s: int
    most: int = 0
    """Only the first so many series, by dimensions; 0: all of them."""


@dataclass(frozen=True, slots=True)
class SeriesUsage:
    """Of a project."""

    series: int
    limit: int
    namespaces: tuple[str, ...]


class Metrics:
    """The use cases around measurements, each within the caller's project."""

    def __init__(
        self,
        store: MeasurementReader,
        series_index: SeriesIndex,
        writer: Writing,
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
        """The series of the project that the caller posts to: its own, or for an agent the one
        that it names. Raises FORBIDDEN or NOT_FOUND."""
        if named is None or named == caller.project_id:
            return self._series_index.project(caller.project_id)
        caller.require(Permission.POST_RESERVED)
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
        """Store what a program pushed; return when it is durable.

        Such programs repeat a request whose reply was lost, byte by byte: ``body``, if given, is
        not stored twice ``where`` it goes to within ``PUSH_LIFE_MS``. ``None``: the same again is
        meant. Where a project has all the series that it may have, the samples of those that it
        has are stored; the answer is how many were not, and why.
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
        """Store what was gathered for a project; return when it is durable."""
        await self._writer.write(self.batch_collected(project_id, measured))

    def batch_collected(self, project_id: str, measured: Sequence[Measured]) -> Batch:
        """What was gathered for a project, for ``store``. Raises RATE_LIMITED for too many
        series."""
        names = [Name(m.namespace, tuple(sorted(m.dimensions.items()))) for m in measured]
        ids = self._series_index.intern(project_id, names)
        return Batch(
            np.array([ids[name] for name in names], dtype=np.int64),
            np.array([m.timestamp_ms for m in measured], dtype=np.int64),
            np.array([m.value for m in measured], dtype=np.float64),
        )

    def known(self, project_id: str, names: Iterable[Name]) -> set[Name]:
        """Which of these series the project has already."""
        project = self._series_index.project(project_id)
        return {name for name in names if project.get(name) is not None}

    async def store(self, batches: Sequence[Batch], receipt: Receipt | None) -> None:
        """Store what belongs to several projects, whole or not at all."""

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
        await self._writer.write(self.batch(project, columns), receipt)

    def batch(self, project: ProjectSeries, columns: Columns) -> Batch:
        """A decoded request, for ``store``. Raises RATE_LIMITED for too many series."""
        if columns.names:
            ids = self._series_index.intern(
                project.project_id, [name for name, _ in columns.names.values()]
            )
            for position, (name, spelling) in columns.names.items():
                columns.series[position] = ids[name]
                if spelling is not None:
                    project.learn(name.namespace, spelling, ids[name], columns.form)
        series = np.array(columns.series, dtype=np.int64)
        if columns.repeats is not None:
            series = np.repeat(series, columns.repeats)
        return Batch(series, columns.timestamp, columns.value)

    async def query(self, caller: Caller, query: Query) -> list[SeriesStatistics]:
        """One result for each series that has data, ordered by dimensions.

        Raises MALFORMED for a request that makes no sense or whose answer would be too large.
        """
        self._check(query)
        series = self._series_index.select(caller.project_id, query.namespace, query.dimensions)
        series = series[: query.most or None]
        self._check_size(query, len(series))
        if not series:
            return []
        found = await self._store.aggregate(
            Aggregation(
                [s.id for s in series],
                query.start_ms,
                query.end_ms,
                query.period_s * 1000,
                query.statistics,
            )
        )
        ids, starts = np.unique(found.series, return_index=True)
        ends = [*starts[1:].tolist(), len(found.series)]
        rows = dict(zip(ids.tolist(), map(slice, starts.tolist(), ends), strict=True))
        seconds = found.timestamp // 1000
        return [
            SeriesStatistics(
                each,
                seconds[rows[each.id]].tolist(),
                {name: found.columns[name][rows[each.id]].tolist() for name in query.statistics},
            )
            for each in series
            if each.id in rows
        ]

    def usage(self, caller: Caller) -> "SeriesUsage":
        """How many series the project has, and may have, and in which namespaces."""
        project = self._series_index.project(caller.project_id)
        return SeriesUsage(
            len(project), self._limits.series_per_project, tuple(project.namespaces())
        )

    async def recent(self, caller: Caller) -> float | None:
        """Measurements a minute of the project, over the last five whole ones; None: there are
        too many series to count."""
        ids = self._series_index.project(caller.project_id).ids
        if len(ids) > RECENT_SERIES:
            return None
        if not ids:
            return 0.0
        end = self.now_ms() // 60_000 * 60_000
        found = await self._store.aggregate(
            Aggregation(ids, end - 300_000, end, 300_000, ["count"])
        )
        return float(found.columns["count"].sum()) / 5

    def complete(
        self, caller: Caller, namespace: str, chosen: Mapping[str, str], key: str | None, part: str
    ) -> list[tuple[str, int]]:
        """What may follow in a search, with the series that have it, the most frequent first:
        namespaces without one, keys of dimensions without ``key``, else its values. ``part`` must
        be in it, in any case."""
        project = self._series_index.project(caller.project_id)
        part = part.lower()
        counts: Counter[str] = Counter()
        if not namespace:
            for name, size in project.sizes():
                if part in name.lower():
                    counts[name] = size
        elif not chosen:
            counts = project.count(namespace, key)
        else:
            found = self._series_index.matching(caller.project_id, namespace, chosen)
            for series in islice(found, COUNTED):
                if key is None:
                    counts.update(k for k, _ in series.dimensions)
                else:
                    counts.update(v for k, v in series.dimensions if k == key)
        if key is None:
            for taken in chosen:
                counts.pop(taken, None)
        ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        return [each for each in ranked if part in each[0].lower()][:COMPLETIONS]

    def list_series(
        self,
        caller: Caller,
        namespace: str | None,
        dimensions: Mapping[str, str],
        after: tuple[str, tuple[tuple[str, str], ...]] | None,
        limit: int,
    ) -> list[Series]:
        """The project's series after a place in the order of namespace and dimensions."""
        project = self._series_index.project(caller.project_id)
        found: list[Series] = []
        for each in [namespace] if namespace is not None else project.namespaces():
            if after is not None and each < after[0]:
                continue
            series = self._series_index.select(caller.project_id, each, dimensions)
            found += [s for s in series if after is None or (s.namespace, s.dimensions) > after]
            if len(found) >= limit:
                break
        return found[:limit]

    def _check(self, query: Query) -> None:
        for statistic in query.statistics:
            if statistic not in STATISTICS:
                raise Malformed(
                    f"statistics: {statistic[:40]!r} is not a statistic.",
                    details=f"Statistics are {', '.join(STATISTICS)}.",
                )
        if not query.statistics:
            raise Malformed(
                "statistics: at least one must be named.",
                details=f"Statistics are {', '.join(STATISTICS)}.",
            )
        if not 1 <= query.period_s <= MAX_PERIOD_S:
            raise Malformed(f"period: must be 1 to {MAX_PERIOD_S} seconds.")
        if query.start_ms >= query.end_ms:
            raise Malformed("start_time: must be before end_time.")

    def _check_size(self, query: Query, series: int) -> None:
        if series > self._limits.series_per_query:
            raise Malformed(
                f"The query selects {series} series; one query may return "
                f"{self._limits.series_per_query}.",
                details="Name more dimensions.",
            )
        # Nothing lies beyond retention or in the future, whatever range was asked for.
        start = max(query.start_ms, self.now_ms() - self._kept_ms)
        end = min(query.end_ms, self.now_ms() + FUTURE_MS)
        period = query.period_s * 1000
        periods = max(0, -(-end // period) - start // period)
        most = self._limits.datapoints_per_query
        if periods * series > most:
            details = "Ask for a shorter time or more dimensions."
            # A range meets one period more than fit into it when it begins within one.
            whole = most // series - 1
            if whole > 0:
                longer = -(-(end - start) // (whole * 1000))
                details = (
                    "Ask for a shorter time, more dimensions, or a period of at least "
                    f"{longer} seconds."
                )
            raise Malformed(
                f"The answer would have up to {periods * series} datapoints; one query may "
                f"return {most}.",
                details=details,
            )


def of_known(columns: Columns, project: ProjectSeries) -> Columns:
    """What belongs to series that the project has already."""
    kept: list[bool] = []
    series: list[int | None] = []
    for row, id_ in enumerate(columns.series):
        if id_ is None and row in columns.names:
            id_ = project.get(columns.names[row][0])
        kept.append(id_ is not None)
        if id_ is not None:
            series.append(id_)
    repeats = columns.repeats
    rows = np.array(kept if repeats is None else np.repeat(kept, repeats), dtype=bool)
    left = None if repeats is None else [n for n, keep in zip(repeats, kept, strict=True) if keep]
    return Columns(series, {}, left, columns.timestamp[rows], columns.value[rows], columns.form)
