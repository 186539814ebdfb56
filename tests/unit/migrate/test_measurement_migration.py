"""A pass of the migration of measurements, to a target in memory."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from heliometer.config import load
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.receipts import Receipt
from heliometer.migrate.comparison import Comparison
from heliometer.migrate.digests import Digests, digest
from heliometer.migrate.journal import JournalFile
from heliometer.migrate.measurements import MeasurementMigration
from heliometer.storage.duckdb.snapshot import SnapshotReader, take
from heliometer.storage.duckdb.store import DuckDBStore

DAY_MS = 86_400_000
DAY = 20_000
SERIES = [Series(1, "p", "n", (("host", "a"),)), Series(2, "q", "n", ())]


class MemoryTarget:
    """Fulfils ``migrate.ports.Target``."""

    def __init__(self) -> None:
        self.rows = Batch(as_int64([]), as_int64([]), np.empty(0, np.float64))
        self.series: list[Series] = []
        self.receipts: list[Receipt] = []
        self.appended: list[tuple[int, bool]] = []
        self.failures = 0
        """How many of the next appends are answered with UNAVAILABLE."""

    def _of_day(self, day: int) -> Batch:
        at = self.rows.timestamp // DAY_MS == day
        order = np.argsort(self.rows.series[at], kind="stable")
        return Batch(
            self.rows.series[at][order],
            self.rows.timestamp[at][order],
            self.rows.value[at][order],
        )

    async def settle(self) -> None: ...

    async def days(self) -> dict[int, int]:
        days, counts = np.unique(self.rows.timestamp // DAY_MS, return_counts=True)
        return dict(zip(days.tolist(), counts.tolist(), strict=True))

    async def digests(self, day: int) -> Digests:
        return digest(self._of_day(day))

    async def read(self, series: Sequence[int], day: int) -> Batch:
        rows = self._of_day(day)
        wanted = np.isin(rows.series, np.array(series, np.int64))
        return Batch(rows.series[wanted], rows.timestamp[wanted], rows.value[wanted])

    async def append(self, batch: Batch, receipt: Receipt, *, maybe_duplicate: bool) -> None:
        if self.failures:
            self.failures -= 1
            raise HeliometerError(Code.UNAVAILABLE, "not now")
        self.appended.append((len(batch), maybe_duplicate))
        self.rows = Batch.concatenate([self.rows, batch])

    async def load_series(self) -> list[Series]:
        return list(self.series)

    async def add_series(self, series: Sequence[Series]) -> None:
        self.series += series

    async def load_receipts(self, since_ms: int) -> list[Receipt]:
        return [receipt for receipt in self.receipts if receipt.ends_ms >= since_ms]

    async def add_receipts(self, receipts: Sequence[Receipt]) -> None:
        self.receipts += receipts


class World:
    """A store, and passes from snapshots of it to the target."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DuckDBStore(folder / "metrics", load(None, {}, {}).metrics)
        self.store.open()
        self.target = MemoryTarget()
        self.passes = 0

    async def store_rows(self, *rows: tuple[int, int, float]) -> None:
        series: list[int] = [s for s, _, _ in rows]
        timestamps: list[int] = [DAY * DAY_MS + t for _, t, _ in rows]
        values = [v for _, _, v in rows]
        batch = Batch(as_int64(series), as_int64(timestamps), np.array(values, np.float64))
        await self.store.append(batch, SERIES, [])

    async def migrate(self, *, copy: bool = True, check: bool = False) -> Comparison:
        self.passes += 1
        snapshot = self.folder / f"snapshot {self.passes}"
        await take(self.store, snapshot)
        reader = SnapshotReader(snapshot, 1 << 28)
        migration = MeasurementMigration(
            reader,
            self.target,
            JournalFile(self.folder, "memory"),
            lambda _day, _rows: None,
            oldest_day=DAY - 10,
            now_ms=DAY * DAY_MS,
        )
        try:
            if check:
                await migration.check_target([])
            return await migration.run(copy=copy)
        finally:
            migration.close()
            reader.close()


def as_int64(numbers: list[int]) -> Int64s:
    return np.array(numbers, np.int64)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.store.close()


async def test_everything_is_copied_once(world: World) -> None:
    await world.store_rows((1, 0, 1.0), (1, 5, 2.0), (2, 0, 3.0))
    first = await world.migrate(check=True)
    assert first.equal
    assert (first.copied, first.here) == (3, {("p", "n"): 2, ("q", "n"): 1})
    assert first.here == first.there
    assert {(s.project_id, s.dimensions) for s in world.target.series} == {
        (s.project_id, s.dimensions) for s in SERIES
    }
    again = await world.migrate(check=True)
    assert (again.equal, again.copied, again.read) == (True, 0, 0)
    assert again.here == first.here
    await world.store_rows((1, 9, 4.0))
    later = await world.migrate(check=True)
    assert (later.equal, later.copied, later.read) == (True, 1, 4)
    assert world.target.rows.value.sum() == 10


async def test_only_what_a_series_lacks_is_sent(world: World) -> None:
    await world.store_rows((1, 0, 1.0), (1, 5, 2.0), (2, 0, 3.0))
    await world.migrate()
    world.target.rows = Batch(
        world.target.rows.series[:-1],
        world.target.rows.timestamp[:-1],
        world.target.rows.value[:-1],
    )
    lost = await world.migrate(copy=False)
    assert not lost.equal
    assert lost.different.total() == 1
    assert (await world.migrate()).copied == 1
    assert (await world.migrate(copy=False)).equal


async def test_a_chunk_that_may_have_been_stored_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliometer.migrate.measurements.PAUSE_S", 0)
    await world.store_rows((1, 0, 1.0))
    world.target.failures = 2
    assert (await world.migrate()).equal
    assert world.target.appended == [(1, True)]


async def test_a_target_of_somebody_else_is_left_alone(world: World) -> None:
    await world.store_rows((1, 0, 1.0))
    world.target.series = [Series(7, "strange", "n", ())]
    with pytest.raises(HeliometerError, match="is not empty: it has 1 series") as refused:
        await world.migrate(check=True)
    assert refused.value.code is Code.CONFLICT
    assert world.target.appended == []
