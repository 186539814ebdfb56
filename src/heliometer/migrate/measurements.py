"""Copying the measurements: a day at a time, what the target lacks of it.

For each series of a day both sides have a digest. Where the target has nothing, the source's rows
are sent; where it has something else, the rows that it lacks are. Each chunk of rows has a receipt,
by which the store recognizes it when it is sent again because the outcome was not known. So
nothing is doubled within a pass; and a pass begins when nothing of an earlier one is still being
stored, so that it sees everything that one brought.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch
from heliometer.metrics.receipts import RECEIPT_LIFE_MS, Receipt, ReceiptKind
from heliometer.migrate.chunks import Reader, pieces
from heliometer.migrate.comparison import Comparison
from heliometer.migrate.digests import Digests, subtract
from heliometer.migrate.journal import CopiedDay, JournalFile
from heliometer.migrate.ports import Day, MeasurementSource, Target
from heliometer.migrate.series_matching import Matched, match

T = TypeVar("T")
log = logging.getLogger(__name__)

ROWS = 500_000
"""Measurements in one chunk."""
CHUNKS = 2
"""Chunks under way at once: one is stored while the next is sent."""
PATIENCE_S = 120.0
"""How long to wait for a target that does not answer."""
PAUSE_S = 2.0


class MeasurementMigration:
    """One pass from a snapshot to a target."""

    def __init__(
        self,
        source: MeasurementSource,
        target: Target,
        file: JournalFile,
        done: Callable[[int, int], None],
        *,
        oldest_day: int,
        now_ms: int,
    ) -> None:
        """``done`` is called with a day and how many more of its measurements are finished;
        ``oldest_day`` is the first that the source's retention keeps."""
        self._source = source
        self._target = target
        self._file = file
        self._done = done
        self._oldest_day = oldest_day
        self._now_ms = now_ms
        self._reader = Reader(source)
        self._run = uuid.uuid4().hex
        self._chunks = 0
        self.result = Comparison()

    def close(self) -> None:
        """Wait for what is being read."""
        self._reader.close()

    async def check_target(self, projects: Sequence[str]) -> None:
        """Raise CONFLICT when the target has something that cannot have come from here."""
        there = await self._target.load_series()
        what = ""
        if not self._file.begun and (there or await self._target.days()):
            what = f"is not empty: it has {len(there)} series"
        here = {*projects, *(s.project_id for s in await self._reader.call(self._source.series))}
        strange = {s.project_id for s in there} - here
        if strange and not what:
            what = f"has measurements of {len(strange)} projects that are unknown here"
        if what:
            raise HeliometerError(
                Code.CONFLICT,
                f"The store {self._file.journal.target} {what}.",
                details="Name an empty database, or use --force to add to what it has.",
            )

    async def run(self, *, copy: bool) -> Comparison:
        """Compare everything; with ``copy``, bring what is missing first.

        Raises UNAVAILABLE when the target does not answer for long.
        """
        if copy:
            self._file.save()  # from now on the target may hold copied data
        await self._insist(lambda _: self._target.settle())
        matched = await self._match_series(copy=copy)
        days = await self._reader.call(self._source.days)
        there = await self._insist(lambda _: self._target.days())
        for day in days:
            earlier = self._file.journal.days.get(day.day) if copy else None
            if earlier and (earlier.content, earlier.rows_there) == (
                day.content,
                there.get(day.day),
            ):
                self.result.add_equal_day(earlier)
                self._done(day.day, day.rows)
                continue
            await self._migrate_day(day, matched, there.get(day.day, 0), copy=copy)
        for number in sorted(there.keys() - {day.day for day in days}):
            if number < self._oldest_day:
                self.result.expired_days += 1
            else:
                digests = await self._digests(number)
                self.result.add_day(Digests.none(), digests, matched.groups)
        if copy:
            await self._copy_receipts()
        return self.result

    async def _match_series(self, *, copy: bool) -> Matched:
        here = await self._reader.call(self._source.series)
        matched = match(here, await self._insist(lambda _: self._target.load_series()))
        self.result.series = len(here)
        if copy:
            await self._insist(lambda _: self._target.add_series(matched.new))
        else:
            self.result.missing_series = len(matched.new)
        return matched

    async def _copy_receipts(self) -> None:
        since = self._now_ms - RECEIPT_LIFE_MS
        receipts = await self._reader.call(lambda: self._source.receipts(since))
        known = await self._insist(lambda _: self._target.load_receipts(since))
        there = {(r.project_id, r.encoded_key) for r in known}
        new = [
            r
            for r in receipts
            if r.ends_ms > self._now_ms and (r.project_id, r.encoded_key) not in there
        ]
        await self._insist(lambda _: self._target.add_receipts(new))

    async def _migrate_day(
        self, day: Day, matched: Matched, rows_there: int, *, copy: bool
    ) -> None:
        before = await self._digests(day.day) if rows_there else Digests.none()
        chunks = self._chunks
        here = await self._read_day(day, matched, before, copy=copy)
        there = before if self._chunks == chunks else await self._digests(day.day)
        if copy and not _equal(here, there):
            # A replica may have been asked that did not have it all yet.
            await self._insist(lambda _: self._target.settle())
            there = await self._digests(day.day)
        counted = self.result.add_day(here, there, matched.groups)
        if copy and _equal(here, there) and not self._source.damaged:
            days = await self._insist(lambda _: self._target.days())
            self._file.journal.days[day.day] = CopiedDay(day.content, days.get(day.day, 0), counted)
            self._file.save()

    async def _read_day(
        self, day: Day, matched: Matched, before: Digests, *, copy: bool
    ) -> Digests:
        """Read a day whole and, with ``copy``, send what the target lacks; the day's digests."""
        series, counts = await self._reader.call(lambda: self._source.counts(day.day))
        found: list[Digests] = []
        read = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                free = asyncio.Semaphore(CHUNKS)
                wanted = pieces(day.day, series, counts, ROWS)
                async for piece in self._reader.read(wanted, matched.shared_ids):
                    found.append(piece.digests)
                    read += len(piece.rows)
                    self.result.unknown += piece.unknown
                    if copy:
                        for chunk in await self._lacking(
                            day.day, piece.rows, piece.digests, before
                        ):
                            await free.acquire()
                            task = tasks.create_task(self._send(chunk))
                            task.add_done_callback(lambda _: free.release())
                    self._done(day.day, len(piece.rows))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        self._done(day.day, day.rows - read)
        here = Digests.concatenate(found)
        whole = read + matched.orphans(series, counts) == int(counts.sum())
        if not whole or int(here.number.sum()) != read:
            raise HeliometerError(
                Code.UNAVAILABLE, f"Day {day.day} could not be read whole from the snapshot."
            )
        self.result.read += read
        return here

    async def _lacking(
        self, day: int, rows: Batch, digests: Digests, before: Digests
    ) -> list[Batch]:
        """Those of the rows that the target does not have, in chunks."""
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
        self._chunks += 1
        key = f"moved {self._run} {self._chunks}"
        receipt = Receipt("", key, b"", self._now_ms, ReceiptKind.HANDOVER)
        await self._insist(lambda again: self._target.append(rows, receipt, maybe_duplicate=again))
        self.result.copied += len(rows)

    async def _digests(self, day: int) -> Digests:
        return await self._insist(lambda _: self._target.digests(day))

    async def _insist(self, work: Callable[[bool], Awaitable[T]]) -> T:
        """Retry for a while when the target does not answer; ``work`` is passed whether it was
        tried before."""
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


def _equal(one: Digests, other: Digests) -> bool:
    count, total = other.find(one.series)
    return (
        len(one.series) == len(other.series)
        and bool((count == one.number).all())
        and bool((total == one.sum).all())
    )


def _select(batch: Batch, rows: NDArray[np.bool_] | slice) -> Batch:
    return Batch(batch.series[rows], batch.timestamp[rows], batch.value[rows])
