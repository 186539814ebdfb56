"""What a migration reads, compares and remembers, without the engines that it goes to."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.config import Settings, WrongSetting, load
from heliometer.feed.model import Chunk, Position
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.receipts import Receipt
from heliometer.migrate.chunks import pieces
from heliometer.migrate.digests import Digests, digest, subtract
from heliometer.migrate.journal import CopiedDay, JournalFile
from heliometer.server.migrate import plan
from heliometer.storage.duckdb.snapshot import SnapshotReader, take
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.feed_sqlite.store import SqliteMessageStore
from heliometer.storage.feed_sqlite.waiting import waiting_messages
from heliometer.storage.sql.table_copy import spread

DAY_MS = 86_400_000
ROWS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 3), st.sampled_from([0.0, -0.0, 1.5])), max_size=20
)


def batch(rows: list[tuple[int, int, float]]) -> Batch:
    return Batch(
        np.array([r[0] for r in rows], np.int64),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.float64),
    )


def counted(rows: Batch) -> Counter[tuple[int, int, str]]:
    each = zip(rows.series.tolist(), rows.timestamp.tolist(), rows.value.tolist(), strict=True)
    return Counter((s, t, repr(v)) for s, t, v in each)


@given(ROWS, ROWS)
def test_what_is_lacking_is_counted_as_often_as_it_is_there(
    here: list[tuple[int, int, float]], there: list[tuple[int, int, float]]
) -> None:
    assert counted(subtract(batch(here), batch(there))) == counted(batch(here)) - counted(
        batch(there)
    )


@given(ROWS, ROWS)
def test_digests_are_equal_exactly_when_the_rows_are(
    one: list[tuple[int, int, float]], other: list[tuple[int, int, float]]
) -> None:
    def all_of(rows: list[tuple[int, int, float]]) -> list[tuple[int, int, int]]:
        found = digest(batch(sorted(rows, key=lambda r: r[0])))
        return list(zip(*(c.tolist() for c in found), strict=True))

    assert (all_of(one) == all_of(other)) == (counted(batch(one)) == counted(batch(other)))


def test_the_hash_is_clickhouses() -> None:
    # intHash64(bitXor(intHash64(ts), the bits of the value)), as release 18.16 answers.
    found = digest(batch([(7, 1_795_000_000_000, 1.5)]))
    assert found.sum.tolist() == [16255525170600602692]
    number, total = Digests.concatenate([found]).find(np.array([7, 8]))
    assert number.tolist() == [1, 0]
    assert total.tolist() == [16255525170600602692, 0]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 50))
def test_pieces_are_all_of_it_and_no_larger_than_need_be(counts: list[int], most: int) -> None:
    series = np.arange(1, len(counts) + 1) * 3
    found = list(pieces(5, series, np.array(counts, np.int64), most))
    covered = [s for p in found for s in series.tolist() if p.first <= s <= p.last]
    assert covered == series.tolist()
    for piece in found:
        rows = [
            n
            for s, n in zip(series.tolist(), counts, strict=True)
            if piece.first <= s <= piece.last
        ]
        assert sum(rows) <= most or len(rows) == 1


async def test_a_snapshot_stays_as_it_was(tmp_path: Path) -> None:
    settings = load(None, {}, {})
    store = DuckDBStore(tmp_path / "metrics", settings.metrics)
    store.open()
    series = [Series(1, "p", "n", (("host", "å"),)), Series(2, "p", "n", ())]
    receipt = Receipt("p", "key", b"\0", 5)
    day = 20_000
    rows = batch([(1, day * DAY_MS, 1.0), (2, day * DAY_MS, 2.0), (1, day * DAY_MS, 1.0)])
    await store.append(rows, series, [receipt])
    await store.maintain((day + 3) * DAY_MS)  # sealed
    await store.append(batch([(2, day * DAY_MS + 1, 3.0)]), [], [])  # late
    await take(store, tmp_path / "snapshot")
    await store.append(batch([(2, day * DAY_MS + 2, 4.0)]), [], [])
    await store.delete_before((day + 10) * DAY_MS)

    reader = SnapshotReader(tmp_path / "snapshot", 1 << 28)
    (found,) = reader.days()
    assert (found.day, found.rows) == (day, 4)
    assert reader.series() == series
    assert reader.receipts(0) == []  # it was forgotten when the day was sealed
    ids, counts = reader.counts(day)
    assert (ids.tolist(), counts.tolist()) == ([1, 2], [2, 2])
    (piece,) = pieces(day, ids, counts, 10)
    assert reader.read(piece).value.tolist() == [1.0, 1.0, 2.0, 3.0]
    reader.close()
    await store.close()


async def test_a_damaged_partition_is_told_of(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "metrics", load(None, {}, {}).metrics)
    store.open()
    await store.append(batch([(1, 0, 1.0)]), [Series(1, "p", "n", ())], [])
    await store.maintain(3 * DAY_MS)
    await take(store, tmp_path / "snapshot")
    await store.close()
    (path,) = (tmp_path / "snapshot" / "partitions").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    reader = SnapshotReader(tmp_path / "snapshot", 1 << 28)
    assert reader.counts(0)[0].tolist() == []
    assert reader.damaged == [f"{path.name} is damaged (1 rows)"]
    reader.close()


def test_a_journal_is_of_its_own_target(tmp_path: Path) -> None:
    file = JournalFile(tmp_path, "http://here/a")
    assert not file.begun
    file.journal.days[3] = CopiedDay("content", 7, [("p", "n", 6)])
    file.journal.tables = [{"projects": (1, "digest")}]
    file.save()
    found = JournalFile(tmp_path, "http://here/a")
    assert found.begun
    assert found.journal == file.journal
    assert not JournalFile(tmp_path, "http://here/b").begun


def test_every_shard_gets_the_checkpoint() -> None:
    row = {"id": 1, "evaluated_at": 5, "checkpoint": b"x", "epoch": 2}
    assert spread([row, {**row, "id": 9}], 2) == [row, {**row, "id": 2}]


@pytest.mark.parametrize(
    ("resources", "metrics", "moves", "words"),
    [
        ("postgresql://u:secret@h/d", "", ("postgresql://u@h/d", False), "The measurements stay"),
        ("", "clickhouse://h", ("", True), "The resources stay"),
        ("postgresql://h/d", "clickhouse://h", ("postgresql://h/d", True), ""),
    ],
)
def test_what_moves_is_what_the_new_settings_name(
    tmp_path: Path, resources: str, metrics: str, moves: tuple[str, bool], words: str
) -> None:
    source = load(None, {}, {"server.data_dir": str(tmp_path)})
    target = load(None, {}, {"resources.url": resources, "metrics.url": metrics})
    found = plan(source, target)
    assert (found.resources, found.metrics) == moves
    assert words in " ".join(found.notes)
    with pytest.raises(WrongSetting, match="nothing to move"):
        plan(target if all((resources, metrics)) else Settings(), Settings())


async def test_messages_that_wait_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "feed.sqlite"
    assert waiting_messages(path) == 0
    store = SqliteMessageStore(path)
    store.open()
    await store.append([Chunk("p", 0, 1, [b"a", b"b", b"c"])])
    await store.advance({"p": Position(1, 3, 1, 0, 1)})
    await store.close()
    assert waiting_messages(path) == 2
