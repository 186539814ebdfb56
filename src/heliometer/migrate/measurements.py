"""Moving the measurements: a day at a time, what the target lacks of it.

For each series of a day both sides have a digest. Where the target has nothing, the source's rows
are sent; where it has something else, the rows that it lacks are. Each parcel of rows has a
receipt, by which the store knows it when it is sent once more because nobody heard what became of
it. So nothing is doubled within a pass; and a pass begins when nothing of an earlier one is under
way any more, so that it sees all of what that brought.
"""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.receipts import RECEIPT_LIFE_MS, Receipt, ReceiptKind
from heliometer.metrics.series_ids import shared_id
from heliometer.migrate.journal import JournalFile, MovedDay
from heliometer.storage.duckdb.snapshot import Day, Piece, SnapshotReader, pieces
from heliometer.storage.measurement_digests import Digests, digest, subtract

T = TypeVar("T")
log = logging.getLogger(__name__)

ROWS = 500_000
"""Measurements in one parcel."""
PARCELS = 2
"""Parcels under way at once: one is stored while the next is sent."""
PATIENCE_S = 120.0
"""How long a target that does not answer is waited for."""
PAUSE_S = 2.0
UNKNOWN = ("", "")
"""Project and namespace of measurements whose series nobody knows."""

Name = tuple[str, str, tuple[tuple[str, str], ...]]
Group = tuple[str, str]
"""A project and a namespace."""


class Target(Protocol):
    """Where measurements go; see ``ClickHouseTarget``. All methods raise UNAVAILABLE."""

    async def settle(self) -> None: ...
    async def days(self) -> dict[int, int]: ...
    async def digests(self, day: int) -> Digests: ...
    async def read(self, series: Sequence[int], day: int) -> Batch: ...
    async def append(self, batch: Batch, receipt: Receipt, *, maybe_duplicate: bool) -> None: ...
    async def load_series(self) -> list[Series]: ...
    async def add_series(self, series: Sequence[Series]) -> None: ...
    async def load_receipts(self, since_ms: int) -> list[Receipt]: ...
    async def add_receipts(self, receipts: Sequence[Receipt]) -> None: ...


@dataclass(slots=True)
class Compared:
    """What was found on both sides."""

    series: int = 0
    """Of the source."""
    missing_series: int = 0
    """That the target does not know."""
    here: Counter[Group] = field(default_factory=Counter)
    there: Counter[Group] = field(default_factory=Counter)
    different: Counter[Group] = field(default_factory=Counter)
    """Days of series, counted, whose digests differ."""
    read: int = 0
    """Measurements of the source that were read and compared; the others are of days that had been
    found to be equal before."""
    copied: int = 0
    unknown: int = 0
    """Measurements of the source whose series it does not know; they stay."""
    bygone: int = 0
    """Days that the target has and the source's retention has removed."""

    @property
    def equal(self) -> bool:
        """Whether both sides have the same."""
        return not (self.missing_series or self.different or self.unknown)


class MeasurementMove:
    """One pass from a snapshot to a target."""

    def __init__(
        self,
        source: SnapshotReader,
        target: Target,
        file: JournalFile,
        done: Callable[[int, int], None],
        *,
        oldest_day: int,
        now_ms: int,
    ) -> None:
        """``done`` is told of a day, and how many more measurements of it are behind us;
        ``oldest_day``: what is older is removed from the source."""
        self._source = source
        self._target = target
        self._file = file
        self._done = done
        self._oldest_day = oldest_day
        self._now_ms = now_ms
        self._reader = ThreadPoolExecutor(1, "snapshot")
        self._run = uuid.uuid4().hex
        self._parcels = 0
        self._shared = np.zeros(1, np.int64)
        self._groups: list[Group] = [UNKNOWN]
        self._known: Int64s = np.empty(0, np.int64)
        self._group_of: Int64s = np.empty(0, np.int64)
        self.result = Compared()

    async def check_target(self, projects: Sequence[str]) -> None:
        """Raise CONFLICT when the target has what cannot have come from here."""
        there = await self._target.load_series()
        what = ""
        if not self._file.begun and (there or await self._target.days()):
            what = f"is not empty: it has {len(there)} series"
        here = {*projects, *(s.project_id for s in await self._in_reader(self._source.series))}
        strange = {s.project_id for s in there} - here
        if strange and not what:
            what = f"has measurements of {len(strange)} projects that are unknown here"
        if what:
            raise HeliometerError(
                Code.CONFLICT,
                f"The store {self._file.journal.target} {what}.",
                details="Name an empty database, or say --force to add to what it has.",
            )

    async def run(self, *, copy: bool) -> Compared:
        """Compare all of it, and with ``copy`` bring what is missing first.

        Raises UNAVAILABLE when the target does not answer for long.
        """
        if copy:
            self._file.save()  # from now on the target has something of ours
        await self._insist(lambda _: self._target.settle())
        await self._match_series(copy=copy)
        days = await self._in_reader(self._source.days)
        there = await self._insist(lambda _: self._target.days())
        for day in days:
            moved = self._file.journal.days.get(day.day)
            known = (moved.content, moved.rows_there) if copy and moved else None
            if moved and known == (day.content, there.get(day.day)):
                self._believe(moved)
                self._done(day.day, day.rows)
                continue
            await self._move_day(day, there.get(day.day, 0), copy=copy)
        for number in sorted(there.keys() - {day.day for day in days}):
            if number < self._oldest_day:
                self.result.bygone += 1
            else:
                self._compare(Digests.none(), await self._digests(number))
        if copy:
            await self._move_receipts()
        return self.result

    def close(self) -> None:
        """End the thread that reads."""
        self._reader.shutdown()

    # -- series and receipts ------------------------------------------------------------------

    async def _match_series(self, *, copy: bool) -> None:
        here = await self._in_reader(self._source.series)
        there = await self._insist(lambda _: self._target.load_series())
        named: dict[Name, int] = {_name(s): s.id for s in there}
        taken = set(named.values())
        self._shared = np.zeros(max((s.id for s in here), default=0) + 1, np.int64)
        new: list[Series] = []
        for series in here:
            found = named.get(_name(series))
            if found is None:
                attempt, found = 0, shared_id(series)
                while found in taken:
                    attempt += 1
                    found = shared_id(series, attempt)
                taken.add(found)
                new.append(series._replace(id=found))
            self._shared[series.id] = found
        self.result.series = len(here)
        if copy:
            await self._insist(lambda _: self._target.add_series(new))
        else:
            self.result.missing_series = len(new)
        self._learn_groups([*there, *new])

    def _learn_groups(self, every: Sequence[Series]) -> None:
        numbers: dict[Group, int] = {UNKNOWN: 0}
        of = [numbers.setdefault((s.project_id, s.namespace), len(numbers)) for s in every]
        ids = np.array([s.id for s in every], np.int64)
        order = np.argsort(ids)
        self._known, self._group_of = ids[order], np.array(of, np.int64)[order]
        self._groups = list(numbers)

    async def _move_receipts(self) -> None:
        since = self._now_ms - RECEIPT_LIFE_MS
        receipts = await self._in_reader(lambda: self._source.receipts(since))
        known = await self._insist(lambda _: self._target.load_receipts(since))
        there = {(r.project_id, r.encoded_key) for r in known}
        new = [
            r
            for r in receipts
            if r.ends_ms > self._now_ms and (r.project_id, r.encoded_key) not in there
        ]
        await self._insist(lambda _: self._target.add_receipts(new))

    # -- a day --------------------------------------------------------------------------------

    async def _move_day(self, day: Day, rows_there: int, *, copy: bool) -> None:
        before = await self._digests(day.day) if rows_there else Digests.none()
        parcels = self._parcels
        series, counts = await self._in_reader(lambda: self._source.counts(day.day))
        found: list[Digests] = []
        behind = 0
        wanted = pieces(day.day, series, counts, ROWS)
        try:
            async with asyncio.TaskGroup() as tasks:
                free = asyncio.Semaphore(PARCELS)
                async for rows, digests in self._read(wanted):
                    found.append(digests)
                    behind += len(rows)
                    if copy:
                        for parcel in await self._lacking(day.day, rows, digests, before):
                            await free.acquire()
                            task = tasks.create_task(self._send(parcel))
                            task.add_done_callback(lambda _: free.release())
                    self._done(day.day, len(rows))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        self._done(day.day, day.rows - behind)
        here = Digests.concatenate(found)
        if int(here.number.sum()) != behind or behind + self._orphans(series, counts) != int(
            counts.sum()
        ):
            raise HeliometerError(
                Code.UNAVAILABLE, f"Day {day.day} could not be read whole from the snapshot."
            )
        self.result.read += behind
        there = before if self._parcels == parcels else await self._digests(day.day)
        if copy and not _equal(here, there):
            # A replica may have been asked that did not have it all yet.
            await self._insist(lambda _: self._target.settle())
            there = await self._digests(day.day)
        counted = self._compare(here, there)
        if copy and _equal(here, there) and not self._source.damaged:
            days = await self._insist(lambda _: self._target.days())
            self._file.journal.days[day.day] = MovedDay(day.content, days.get(day.day, 0), counted)
            self._file.save()

    def _orphans(self, series: Int64s, counts: Int64s) -> int:
        """Measurements whose series the source does not know; they are told of and left out."""
        known = (series > 0) & (series < len(self._shared))
        known[known] = self._shared[series[known]] > 0
        return int(counts[~known].sum())

    async def _read(self, wanted: Iterable[Piece]) -> AsyncIterator[tuple[Batch, Digests]]:
        """Each piece's rows with their shared ids, and their digests; the next piece is read
        while this one is used."""
        waiting: asyncio.Future[tuple[Batch, Digests]] | None = None
        for piece in wanted:
            ahead = asyncio.ensure_future(self._in_reader(partial(self._read_piece, piece)))
            if waiting is not None:
                yield await waiting
            waiting = ahead
        if waiting is not None:
            yield await waiting

    def _read_piece(self, piece: Piece) -> tuple[Batch, Digests]:
        rows = self._source.read(piece)
        number = np.where(rows.series < len(self._shared), rows.series, 0)
        shared = self._shared[np.maximum(number, 0)]
        if not shared.all():
            known = shared > 0
            self.result.unknown += int((~known).sum())
            rows = Batch(rows.series[known], rows.timestamp[known], rows.value[known])
            shared = shared[known]
        rows = Batch(shared, rows.timestamp, rows.value)
        return rows, digest(rows)

    async def _lacking(
        self, day: int, rows: Batch, digests: Digests, before: Digests
    ) -> list[Batch]:
        """Those of the rows that the target does not have, in parcels."""
        count, total = before.find(digests.series)
        absent = count == 0
        other = ~absent & ((count != digests.number) | (total != digests.sum))
        lacking = rows if absent.all() else _select(rows, np.repeat(absent, digests.number))
        if other.any():
            series = digests.series[other].tolist()
            there = await self._insist(lambda _: self._target.read(series, day))
            mine = _select(rows, np.repeat(other, digests.number))
            added = await asyncio.to_thread(subtract, mine, there)
            lacking = Batch.concatenate([lacking, added])
        return [
            _select(lacking, slice(first, first + ROWS)) for first in range(0, len(lacking), ROWS)
        ]

    async def _send(self, rows: Batch) -> None:
        self._parcels += 1
        key = f"moved {self._run} {self._parcels}"
        receipt = Receipt("", key, b"", self._now_ms, ReceiptKind.HANDOVER)
        await self._insist(lambda again: self._target.append(rows, receipt, maybe_duplicate=again))
        self.result.copied += len(rows)

    async def _digests(self, day: int) -> Digests:
        return await self._insist(lambda _: self._target.digests(day))

    # -- comparing ----------------------------------------------------------------------------

    def _compare(self, here: Digests, there: Digests) -> list[tuple[str, str, int]]:
        """Count a day; what the source has of it."""
        counted = self._count(here)
        for (project, namespace), number in counted.items():
            self.result.here[project, namespace] += number
        self.result.there.update(self._count(there))
        count, total = there.find(here.series)
        wrong = (count != here.number) | (total != here.sum)
        self._mark(here.series[wrong])
        self._mark(np.setdiff1d(there.series, here.series))
        return [(p, n, number) for (p, n), number in counted.items()]

    def _believe(self, moved: MovedDay) -> None:
        for project, namespace, number in moved.counts:
            self.result.here[project, namespace] += number
            self.result.there[project, namespace] += number

    def _count(self, found: Digests) -> Counter[Group]:
        totals = np.bincount(self._groups_of(found.series), found.number, len(self._groups))
        return Counter({self._groups[i]: int(totals[i]) for i in np.flatnonzero(totals).tolist()})

    def _mark(self, series: Int64s) -> None:
        self.result.different.update(self._groups[i] for i in self._groups_of(series).tolist())

    def _groups_of(self, series: Int64s) -> Int64s:
        if not len(self._known):
            return np.zeros(len(series), np.int64)
        at = np.minimum(np.searchsorted(self._known, series), len(self._known) - 1)
        found: Int64s = np.where(self._known[at] == series, self._group_of[at], 0)
        return found

    # -- waiting ------------------------------------------------------------------------------

    async def _in_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def _insist(self, work: Callable[[bool], Awaitable[T]]) -> T:
        """Do it again while the target does not answer, if not for long. ``work`` is told whether
        it was tried before."""
        deadline = time.monotonic() + PATIENCE_S
        again = False
        while True:
            try:
                return await work(again)
            except HeliometerError as error:
                if error.code is not Code.UNAVAILABLE or time.monotonic() > deadline:
                    raise
                log.info("waiting for %s: %s", self._file.journal.target, error.message)
            again = True
            await asyncio.sleep(PAUSE_S)


def _name(series: Series) -> Name:
    return series.project_id, series.namespace, series.dimensions


def _equal(one: Digests, other: Digests) -> bool:
    count, total = other.find(one.series)
    return (
        len(one.series) == len(other.series)
        and bool((count == one.number).all())
        and bool((total == one.sum).all())
    )


def _select(batch: Batch, rows: NDArray[np.bool_] | slice) -> Batch:
    return Batch(batch.series[rows], batch.timestamp[rows], batch.value[rows])
