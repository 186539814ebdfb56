"""The contract of a measurement store, and what the embedded one adds to it.

Every implementation goes through the same tests: a new one is a line in ``STORES``.
"""

import asyncio
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_servers import clickhouse_database
from heliometer.config import MetricSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Aggregation, Batch, Series
from heliometer.metrics.receipts import Receipt, ReceiptKind
from heliometer.metrics.statistics import AGGREGATES
from heliometer.storage.clickhouse.store import ClickHouseStore
from heliometer.storage.duckdb import sql
from heliometer.storage.duckdb.sources import Partition, Sources, Table
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.errors import StoreUnusable

DAY = 86_400_000
NOW = 1_795_000_000_000
"""Any moment will do: the store has no clock."""


Store = DuckDBStore | ClickHouseStore
Opener = Callable[[], Awaitable[Store]]
"""Opens the store, always the same one."""


def open_duckdb(folder: Path) -> DuckDBStore:
    store = DuckDBStore(folder, MetricSettings(min_free_bytes=0))
    store.open()
    return store


@contextmanager
def duckdb_store(folder: Path) -> Iterator[Opener]:
    async def opened() -> Store:
        return open_duckdb(folder)

    yield opened


@contextmanager
def clickhouse_store(_: Path) -> Iterator[Opener]:
    async def opened() -> Store:
        store = ClickHouseStore(MetricSettings(url=url, min_free_bytes=0))
        await store.open()
        return store

    with clickhouse_database() as url:
        yield opened


STORES = {"duckdb": duckdb_store, "clickhouse": clickhouse_store}
EACH = [pytest.param("duckdb"), pytest.param("clickhouse", marks=pytest.mark.engines)]


@pytest.fixture(params=EACH)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    with STORES[request.param](tmp_path) as opened:
        yield opened


def batch(*rows: tuple[int, int, float]) -> Batch:
    """Rows of series, milliseconds and value."""
    return Batch(
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.int64),
        np.array([r[2] for r in rows], dtype=np.float64),
    )


def series(*ids: int) -> list[Series]:
    return [Series(i, "p", "ns", (("host", f"h{i}"), ("ö", "å'\""))) for i in ids]


def rows(found: Batch) -> list[tuple[int, int, float]]:
    return list(
        zip(found.series.tolist(), found.timestamp.tolist(), found.value.tolist(), strict=True)
    )


async def counts(store: Store, *ids: int) -> dict[int, int]:
    """How many measurements each series has."""
    everything = Aggregation(ids, 0, NOW + 400 * DAY, DAY, ["count"])
    found = await store.aggregate(everything)
    total: dict[int, int] = defaultdict(int)
    for i, n in zip(found.series.tolist(), found.columns["count"].tolist(), strict=True):
        total[i] += n
    return dict(total)


async def test_what_was_appended_is_there_at_once_and_after_reopening(
    opener: Opener,
) -> None:
    store = await opener()
    receipt = Receipt("p", "key ö", b"\x00\xff", NOW)
    await store.append(batch((1, NOW, 1.5), (2, NOW - 3 * DAY, -2.0)), series(1, 2), [receipt])
    for again in range(2):
        assert rows(await store.read([1, 2], 0, NOW + 1)) == [
            (1, NOW, 1.5),
            (2, NOW - 3 * DAY, -2.0),
        ]
        assert await store.load_series() == series(1, 2)
        assert await store.load_receipts(NOW) == [receipt]
        assert await store.load_receipts(NOW + 1) == []
        await store.ping()
        await store.close()
        if not again:
            store = await opener()


async def test_equal_timestamps_both_count_start_is_in_and_end_is_out(opener: Opener) -> None:
    store = await opener()
    start = NOW // 60_000 * 60_000
    await store.append(
        batch((1, start, 1.0), (1, start, 3.0), (1, start + 59_999, 5.0), (1, start + 60_000, 9.0)),
        series(1),
        [],
    )
    names = ["avg", "sum", "min", "max", "count"]
    found = await store.aggregate(Aggregation([1], start, start + 60_000, 60_000, names))
    assert found.timestamp.tolist() == [start]
    assert {k: v.tolist() for k, v in found.columns.items()} == {
        "avg": [3.0], "sum": [9.0], "min": [1.0], "max": [5.0], "count": [3],
    }  # fmt: skip
    assert len((await store.aggregate(Aggregation([7], 0, NOW + DAY, 60_000, names))).series) == 0
    await store.close()


row = st.tuples(
    st.integers(1, 4),
    st.integers(NOW - 3 * DAY, NOW).map(lambda t: t // 7000 * 7000),
    st.floats(-1e6, 1e6).map(lambda v: round(v, 3)),
)
step: st.SearchStrategy[tuple[str, list[tuple[int, int, float]]]] = st.one_of(
    st.lists(row, min_size=1, max_size=20).map(lambda r: ("append", r)),
    st.sampled_from([("seal", []), ("upkeep", []), ("upkeep later", []), ("reopen", [])]),
)


@pytest.mark.parametrize(
    ("name", "examples"),
    [
        pytest.param("duckdb", 40),
        pytest.param("clickhouse", 12, marks=pytest.mark.engines),
    ],
)
def test_statistics_equal_a_plain_computation_whatever_was_sealed_or_merged(
    tmp_path_factory: pytest.TempPathFactory, name: str, examples: int
) -> None:
    """The reference keeps every row in a list."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(
        steps=st.lists(step, min_size=1, max_size=8),
        period=st.sampled_from([1000, 60_000, 300_000, 3_600_000, DAY, 7 * DAY]),
        bounds=st.tuples(st.integers(0, 4 * DAY), st.integers(0, 4 * DAY)),
        wanted=st.sets(st.integers(1, 5), min_size=1),
        origin=st.sampled_from([0, 12_345, None]),
        limit=st.integers(1, 30),
    )
    def check(
        steps: list[tuple[str, list[tuple[int, int, float]]]],
        period: int,
        bounds: tuple[int, int],
        wanted: set[int],
        origin: int | None,
        limit: int,
    ) -> None:
        with STORES[name](tmp_path_factory.mktemp("store")) as opened:
            asyncio.run(compare(opened, steps, period, bounds, sorted(wanted), origin, limit))

    check()


async def compare(
    opener: Opener,
    steps: list[tuple[str, list[tuple[int, int, float]]]],
    period: int,
    bounds: tuple[int, int],
    wanted: list[int],
    origin: int | None,
    limit: int,
) -> None:
    """Do the steps, and compare what the store says with what a list of all rows does."""
    store = await opener()
    known: list[tuple[int, int, float]] = []
    try:
        for name, new in steps:
            if name == "append":
                await store.append(batch(*new), [], [])
                known += new
            elif name == "reopen":
                await store.close()
                store = await opener()
            else:
                # Later, days are closed: everything of a day is merged into one partition.
                moment = NOW + (30 * DAY if name == "upkeep later" else 0)
                if isinstance(store, DuckDBStore):
                    await store.maintain(moment, seal_all=name == "seal")
                else:
                    await store.maintain(moment)
        start, end = NOW - max(bounds), NOW - min(bounds)
        within = sorted(r for r in known if r[0] in wanted and start <= r[1] < end)
        names = list(AGGREGATES)
        found = await store.aggregate(Aggregation(wanted, start, end, period, names, origin))
        if origin is None:
            origin = min((r[1] for r in within), default=0)
        expected: dict[tuple[int, int], list[tuple[int, int, float]]] = defaultdict(list)
        for row in within:
            expected[row[0], row[1] - (row[1] - origin) % period].append(row)
        keys = list(zip(found.series.tolist(), found.timestamp.tolist(), strict=True))
        assert keys == sorted(expected)
        columns = {name: column.tolist() for name, column in found.columns.items()}
        for k, key in enumerate(keys):
            values = [value for _, _, value in expected[key]]
            times = [at for _, at, _ in expected[key]]
            assert columns["count"][k] == len(values)
            assert columns["min"][k] == min(values)
            assert columns["max"][k] == max(values)
            assert (columns["first_ms"][k], columns["last_ms"][k]) == (min(times), max(times))
            total = math.fsum(values)
            assert math.isclose(columns["sum"][k], total, abs_tol=1e-6, rel_tol=1e-9)
            average = total / len(values)
            assert math.isclose(columns["avg"][k], average, abs_tol=1e-6, rel_tol=1e-9)
            deviation = statistics.pstdev(values)
            assert math.isclose(columns["stddev"][k], deviation, abs_tol=1e-3, rel_tol=1e-6)
        read = rows(await store.read(wanted, start, end))
        assert sorted(read) == within
        assert [r[:2] for r in read] == [r[:2] for r in within]
        newest = rows(await store.latest(wanted, start, end, limit))
        order = sorted((-at, i) for i, at, _ in within)[:limit]
        assert [(-at, i) for i, at, _ in newest] == order
        assert set(newest) <= set(within)
    finally:
        await store.close()


async def test_answers_have_the_types_of_the_contract_also_when_empty(opener: Opener) -> None:
    store = await opener()
    await store.append(batch((1, NOW, 1.0)), series(1), [])
    for wanted in ([1], [2], []):
        aggregation = Aggregation(wanted, NOW - DAY, NOW + 1, 60_000, list(AGGREGATES), None)
        found = await store.aggregate(aggregation)
        integers = {"count", "first_ms", "last_ms"}
        for name in AGGREGATES:
            kind = np.integer if name in integers else np.floating
            assert np.issubdtype(found.columns[name].dtype, kind)
        for answer in (
            await store.read(wanted, NOW - DAY, NOW + 1),
            await store.latest(wanted, NOW - DAY, NOW + 1, 5),
        ):
            assert len(answer) == len(found.series) == (wanted == [1])
            assert [answer.series.dtype.kind, answer.timestamp.dtype.kind] == ["i", "i"]
            assert answer.value.dtype.kind == "f"
    await store.close()


async def test_thousands_of_series_with_large_ids_are_read_at_once(opener: Opener) -> None:
    store = await opener()
    ids = np.random.default_rng(1).choice(1 << 62, 10_000, replace=False) + (1 << 62)
    many = Batch(ids, np.full(len(ids), NOW), np.arange(len(ids), dtype=np.float64))
    await store.append(many, [], [])
    wanted = ids[: len(ids) // 2 * 2].tolist()
    found = await store.aggregate(Aggregation(wanted, NOW, NOW + 1, 60_000, ["sum"]))
    assert found.series.tolist() == sorted(wanted)
    assert found.columns["sum"].sum() == len(ids) * (len(ids) - 1) / 2
    assert len(await store.read(wanted[::2], NOW, NOW + 1)) == len(wanted) // 2
    assert len(await store.latest(wanted, NOW, NOW + 1, 77)) == 77
    await store.close()


async def test_names_come_back_as_they_were_given(opener: Opener) -> None:
    store = await opener()
    values = ["a'b\\c", '"quoted"', "ünïcödé ✓ 🌞", "\\N", "{x}", "%s", "a,b;c", "\u3000wide", "'"]
    exotic = [
        Series((1 << 62) + i, f"p{i}", "n-s._1", (("k", v), ("k.2", v * 3)))
        for i, v in enumerate(values)
    ]
    await store.append(batch((1, NOW, 1.0)), exotic, [])
    receipts = [Receipt(f"p{i}", v, v.encode(), NOW + i, ReceiptKind.PUSH) for i, v in
                enumerate(values)]  # fmt: skip
    await store.append(batch((1, NOW, 1.0)), [], receipts)
    assert await store.load_series() == exotic
    assert sorted(await store.load_receipts(0), key=lambda r: r.at_ms) == receipts
    await store.close()


async def test_retention_forgets_whole_days(opener: Opener) -> None:
    store = await opener()
    receipts = [Receipt("p", "m", b"", NOW, ReceiptKind.HANDOVER), Receipt("p", "k", b"", NOW)]
    await store.append(batch(*[(1, NOW - k * DAY, 1.0) for k in range(5)]), series(1), receipts)
    await store.delete_before(NOW - 2 * DAY)
    assert await counts(store, 1) == {1: 3}
    await store.delete_before(NOW - 2 * DAY)
    assert await counts(store, 1) == {1: 3}
    assert await store.load_series() == series(1)
    await store.close()


async def test_appends_at_the_same_time_are_all_there(opener: Opener) -> None:
    store = await opener()
    every = [batch((i % 3 + 1, NOW + i, 1.0), (1, NOW - DAY, 1.0)) for i in range(30)]
    await asyncio.gather(*(store.append(b, [], []) for b in every))
    assert await counts(store, 1, 2, 3) == {1: 40, 2: 10, 3: 10}
    await store.close()


async def test_sealing_loses_and_doubles_nothing_while_others_append_and_query(
    tmp_path: Path,
) -> None:
    store = open_duckdb(tmp_path)
    appended = 0
    stop = False

    async def append() -> None:
        nonlocal appended
        while not stop:
            await store.append(batch(*[(1, NOW - appended % 3 * DAY, 1.0)] * 50), [], [])
            appended += 50

    async def query() -> None:
        while not stop:
            before = appended
            total = (await counts(store, 1)).get(1, 0)
            assert before <= total <= appended + 50

    tasks = [asyncio.create_task(append()), *(asyncio.create_task(query()) for _ in range(3))]
    for _ in range(25):
        await store.maintain(NOW + 40 * DAY, seal_all=True)
    stop = True
    await asyncio.gather(*tasks)
    assert await counts(store, 1) == {1: appended}
    assert await store.verify() == []
    await store.close()


async def test_many_partitions_of_a_day_are_merged(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    for k in range(12):
        await store.append(batch((1, NOW + k, 1.0)), [], [])
        await store.maintain(NOW, seal_all=True)
    assert len(store.sources.partitions) < 12
    await store.maintain(NOW + 30 * DAY)
    assert len(store.sources.partitions) == 1
    assert len(list((tmp_path / "partitions").iterdir())) == 1
    assert await counts(store, 1) == {1: 12}
    await store.close()


async def test_retention_removes_whole_days_and_their_files(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch(*[(1, NOW - k * DAY, 1.0) for k in range(5)]), series(1), [])
    await store.maintain(NOW)
    await store.append(batch((1, NOW - 4 * DAY, 1.0), (2, NOW, 1.0)), series(2), [])
    await store.delete_before(NOW - 2 * DAY)
    assert await counts(store, 1, 2) == {1: 3, 2: 1}
    assert len(list((tmp_path / "partitions").iterdir())) == len(store.sources.partitions) == 2
    await store.close()


async def test_series_without_any_measurement_left_are_forgotten(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW - 60 * DAY, 1.0), (2, NOW, 1.0)), series(1, 2, 3), [])
    await store.append(batch((4, NOW - 60 * DAY, 1.0)), series(4), [])
    await store.maintain(NOW, seal_all=True)
    await store.append(batch((4, NOW, 1.0)), [], [])
    assert store.forget_idle_series(NOW) == 1
    assert [s.id for s in await store.load_series()] == [2, 3, 4]
    await store.close()


async def test_receipts_are_forgotten_after_a_day(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    for at in (NOW - 25 * 3_600_000, NOW):
        await store.append(batch((1, NOW, 1.0)), [], [Receipt("p", str(at), b"", at)])
    await store.maintain(NOW)
    assert [r.at_ms for r in await store.load_receipts(0)] == [NOW]
    await store.close()


async def test_files_that_nothing_knows_are_set_aside(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0)), [], [])
    await store.maintain(NOW, seal_all=True)
    await store.close()
    unknown = ("2026-01-01.1.parquet", "2026-01-01.2.parquet.tmp")
    for name in unknown:
        (tmp_path / "partitions" / name).write_bytes(b"half")
    (tmp_path / "backup-left").mkdir()
    store = open_duckdb(tmp_path)
    assert len(list((tmp_path / "partitions").iterdir())) == 1
    assert all((tmp_path / "quarantine" / name).read_bytes() == b"half" for name in unknown)
    assert not (tmp_path / "backup-left").exists()
    assert await counts(store, 1) == {1: 1}
    await store.close()


@pytest.mark.reliability(5)
async def test_a_damaged_partition_is_set_aside_and_the_rest_served(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0), (1, NOW - DAY, 1.0)), [], [])
    await store.maintain(NOW, seal_all=True)
    first, second = sorted((tmp_path / "partitions").iterdir())
    content = bytearray(second.read_bytes())
    content[10] ^= 0xFF
    second.write_bytes(content)
    assert [str(second) in wrong for wrong in await store.verify()] == [True]
    await store.close()
    first.write_bytes(first.read_bytes()[:-3])
    store = open_duckdb(tmp_path)
    assert [p.file for p in store.sources.partitions] == [second.name]
    assert (tmp_path / "quarantine" / first.name).exists()
    assert any("left out" in wrong for wrong in await store.verify())
    await store.append(batch((1, NOW - DAY, 1.0)), [], [])
    await store.close()


@pytest.mark.reliability(7)
async def test_a_backup_is_one_moment_while_others_append(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path / "a")
    await store.append(batch(*[(1, NOW - k * DAY, 1.0) for k in range(3)]), series(1), [])
    await store.maintain(NOW)
    stop = False

    async def append() -> None:
        while not stop:
            await store.append(batch((1, NOW, 1.0), (2, NOW, 1.0)), [], [])

    task = asyncio.create_task(append())
    target = tmp_path / "b"
    (target / "partitions").mkdir(parents=True)
    for _ in range(3):

        def use(snapshot: object) -> None:
            (target / "recent.duckdb").write_bytes(snapshot.database.read_bytes())  # type: ignore[attr-defined]
            for path in snapshot.partitions:  # type: ignore[attr-defined]
                (target / "partitions" / path.name).write_bytes(path.read_bytes())

        await store.backup(use)
        copy = open_duckdb(target)
        found = await counts(copy, 1, 2)
        assert found[1] - 3 == found.get(2, 0)
        await copy.close()
    stop = True
    await task
    await store.close()


@pytest.mark.reliability(4)
async def test_an_almost_full_disk_refuses_writes_and_goes_on_reading(tmp_path: Path) -> None:
    free = 1000
    store = DuckDBStore(tmp_path, MetricSettings(min_free_bytes=100), lambda _: free)
    store.open()
    await store.append(batch((1, NOW, 1.0)), [], [])
    free = 99
    await asyncio.sleep(0.25)  # a look at the free space is good for 0.2 s
    with pytest.raises(HeliometerError, match="almost full") as refused:
        await store.append(batch((1, NOW, 1.0)), [], [])
    assert refused.value.code is Code.UNAVAILABLE
    assert await counts(store, 1) == {1: 1}
    await store.close()


async def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0)), [], [])
    await store.close()
    with duckdb.connect(tmp_path / "recent.duckdb") as database:
        database.execute("UPDATE format SET version = 99")
    with pytest.raises(StoreUnusable, match="newer version"):
        open_duckdb(tmp_path)
    (tmp_path / "recent.duckdb").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreUnusable, match="is damaged"):
        open_duckdb(tmp_path)


async def test_a_batch_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0)), series(1), [])
    insert, inserted = sql.insert, 0

    def fail_at_the_second_day(*arguments: Any) -> None:
        nonlocal inserted
        inserted += 1
        if inserted == 2:
            raise duckdb.OutOfMemoryException("as if")
        insert(*arguments)

    monkeypatch.setattr(sql, "insert", fail_at_the_second_day)
    two_days = batch((1, NOW, 2.0), (2, NOW - DAY, 2.0))
    with pytest.raises(HeliometerError) as refused:
        await store.append(two_days, series(2), [Receipt("p", "k", b"", NOW)])
    assert refused.value.code is Code.UNAVAILABLE
    for again in range(2):
        assert await counts(store, 1, 2) == {1: 1}
        assert await store.load_series() == series(1)
        assert await store.load_receipts(0) == []
        if not again:
            await store.close()
            store = open_duckdb(tmp_path)
    await store.append(two_days, series(2), [])
    assert await counts(store, 1, 2) == {1: 2, 2: 1}
    await store.close()


@pytest.mark.reliability(5)
async def test_a_partition_that_a_query_finds_damaged_is_set_aside_and_the_rest_served(
    tmp_path: Path,
) -> None:
    store = open_duckdb(tmp_path)
    for day in range(3):
        await store.append(batch(*[(i, NOW - day * DAY, i / 7) for i in range(50)]), [], [])
    await store.maintain(NOW, seal_all=True)
    await store.close()
    damaged = sorted((tmp_path / "partitions").iterdir())[1]
    content = damaged.read_bytes()
    damaged.write_bytes(bytes(20) + content[20:])
    store = open_duckdb(tmp_path)
    found = await asyncio.gather(*(counts(store, *range(50)) for _ in range(8)))
    assert found == [dict.fromkeys(range(50), 2)] * 8
    assert (tmp_path / "quarantine" / damaged.name).read_bytes() == bytes(20) + content[20:]
    await store.close()


@pytest.mark.parametrize("keep", [-3, 0])
@pytest.mark.reliability(5)
async def test_what_comes_late_for_a_damaged_day_is_not_taken_for_it(
    tmp_path: Path, keep: int
) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0)), [], [])
    await store.maintain(NOW, seal_all=True)
    await store.close()
    (damaged,) = (tmp_path / "partitions").iterdir()
    damaged.write_bytes(damaged.read_bytes()[:keep])
    for _ in range(3):
        store = open_duckdb(tmp_path)
        await store.append(batch((1, NOW, 2.0)), [], [])
        await store.maintain(NOW, seal_all=True)
        await store.close()
    store = open_duckdb(tmp_path)
    assert await counts(store, 1) == {1: 3}
    assert (tmp_path / "quarantine" / damaged.name).exists()
    await store.close()


async def test_a_new_series_never_shows_what_another_left_under_its_id(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0), (2, NOW, 1.0)), series(1, 2), [])
    await store.maintain(NOW, seal_all=True)
    await store.append(batch((1, NOW + 50 * DAY, 1.0)), [], [])
    await store.close()
    store = open_duckdb(tmp_path)
    assert store.forget_idle_series(NOW + 50 * DAY) == 1
    await store.append(batch((2, NOW + 50 * DAY, 1.0)), series(2), [])
    assert await counts(store, 1, 2) == {1: 1, 2: 1}
    await store.close()


def test_no_table_gets_the_name_of_one_that_was_sealed() -> None:
    """A reader that chose its sources before the sealing would take it for the old one."""
    sources = Sources().with_tables([Sources().next_table(7)])
    assert sources.tables == (Table(7, 1),)
    sealed = sources.replace(sources.tables, [], [Partition(7, "1970-01-08.1.parquet", 1, 1, "")])
    assert sealed.next_table(7) == Table(7, 2)
    assert sealed.next_table(8) == Table(8, 1)


async def test_a_second_process_is_refused_with_the_reason(tmp_path: Path) -> None:
    store = open_duckdb(tmp_path)
    second = (
        "import sys, pathlib\n"
        "from heliometer.config import MetricSettings\n"
        "from heliometer.storage.duckdb.store import DuckDBStore\n"
        "from heliometer.storage.errors import StoreUnusable\n"
        "try: DuckDBStore(pathlib.Path(sys.argv[1]), MetricSettings()).open()\n"
        "except StoreUnusable as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", second, str(tmp_path)], capture_output=True, text=True, timeout=30
    )
    assert "another process has it open" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    await store.close()


async def test_a_start_that_was_interrupted_at_once_leaves_nothing_in_the_way(
    tmp_path: Path,
) -> None:
    (tmp_path / "recent.duckdb").touch()
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0)), [], [])
    assert await counts(store, 1) == {1: 1}
    await store.close()


@pytest.mark.parametrize("name", ["with [1] blank", "a*b", "it's", "ö{a,b}"])
async def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    store = open_duckdb(tmp_path / name)
    await store.append(batch((1, NOW, 1.0), (1, NOW - DAY, 1.0)), [], [])
    await store.maintain(NOW, seal_all=True)
    assert await counts(store, 1) == {1: 2}
    assert await store.backup(lambda snapshot: len(snapshot.partitions)) == 2
    await store.close()


async def test_after_a_fatal_error_the_store_opens_itself_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_duckdb(tmp_path)
    await store.append(batch((1, NOW, 1.0)), series(1), [])
    await store.maintain(NOW, seal_all=True)

    def fail(*_: object) -> None:
        raise duckdb.FatalException("as after a sync that failed")

    with monkeypatch.context() as patch:
        patch.setattr(sql, "insert", fail)
        with pytest.raises(HeliometerError) as refused:
            await store.append(batch((1, NOW, 1.0)), [], [])
    assert refused.value.code is Code.UNAVAILABLE
    await store.append(batch((1, NOW, 1.0)), [], [])
    assert await counts(store, 1) == {1: 2}
    await store.close()
