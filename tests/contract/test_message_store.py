"""What the store of the feed's messages promises."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from heliometer.core.errors import Code, HeliometerError
from heliometer.feed.model import Chunk, Position
from heliometer.storage.feed_sqlite.store import MessagesUnusable, SqliteMessageStore


def chunk(first: int, number: int = 3, project: str = "p", at_ms: int = 0, size: int = 10) -> Chunk:
    bodies = [b'{"n":%d,"x":"%s"}' % (n, b"x" * size) for n in range(first, first + number)]
    return Chunk(project, first, at_ms, bodies)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteMessageStore]:
    opened = SqliteMessageStore(tmp_path / "feed.sqlite")
    opened.open()
    yield opened
    await opened.close()


@pytest.mark.parametrize("size", [1, 5000])
async def test_what_was_appended_is_read_from_any_message_on(
    store: SqliteMessageStore, size: int
) -> None:
    await store.append([chunk(0, size=size), chunk(3, size=size), chunk(0, project="q")])
    for number in range(6):
        read = await store.read("p", number)
        assert read is not None
        assert read.first <= number
        whole = [*chunk(0, size=size).bodies, *chunk(3, size=size).bodies]
        assert list(read.bodies) == whole[read.first :]
    assert await store.read("p", 6) is None
    assert await store.read("nobody", 0) is None


async def test_a_gap_is_skipped(store: SqliteMessageStore) -> None:
    await store.append([chunk(0), chunk(10)])
    read = await store.read("p", 5)
    assert read is not None
    assert read.first == 10
    read = await store.read("p", 0)
    assert read is not None
    assert len(read.bodies) == 3, "what lies behind the gap has other numbers"


async def test_revoked_chunks_are_gone_and_their_numbers_free(store: SqliteMessageStore) -> None:
    await store.append([chunk(0, 5)])
    await store.revoke([chunk(0, 5)])
    assert await store.read("p", 0) is None
    await store.append([chunk(0, 2)])
    await store.append([chunk(0, 4)])  # as after a revocation that failed
    assert await store.load() == {"p": Position(0, 4, 0, 0)}


async def test_positions_are_remembered_and_what_is_over_removed(
    store: SqliteMessageStore,
) -> None:
    await store.append([chunk(0), chunk(3), chunk(6)])
    await store.advance({"p": Position(4, 9, 3, 1, 5)})
    assert await store.load() == {"p": Position(4, 9, 3, 1, 5)}
    assert await store.read("p", 0) == chunk(3)._replace(
        bodies=[*chunk(3).bodies, *chunk(6).bodies]
    )
    await store.append([chunk(9)])
    assert (await store.load())["p"].next == 12


async def test_the_oldest_are_found_by_age(store: SqliteMessageStore) -> None:
    await store.append([chunk(0, at_ms=1), chunk(3, at_ms=5), chunk(6, at_ms=9)])
    assert await store.oldest(6) == {"p": 6}
    assert await store.oldest(1) == {}


async def test_a_forgotten_queue_leaves_nothing(store: SqliteMessageStore) -> None:
    await store.append([chunk(0)])
    await store.advance({"p": Position(0, 3, 0, 0)})
    await store.forget("p")
    assert await store.load() == {}
    assert await store.read("p", 0) is None


async def test_everything_is_there_after_it_was_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "feed.sqlite"
    for number in range(3):
        store = SqliteMessageStore(path)
        store.open()
        await store.append([chunk(3 * number)])
        await store.close()
    assert path.stat().st_mode & 0o77 == 0
    store = SqliteMessageStore(path)
    store.open()
    assert await store.load() == {"p": Position(0, 9, 0, 0)}
    await store.close()


async def test_after_a_crash_anything_may_have_been_delivered(tmp_path: Path) -> None:
    path = tmp_path / "feed.sqlite"
    crashed = SqliteMessageStore(path)
    crashed.open()
    await crashed.append([chunk(0)])
    await crashed.advance({"p": Position(0, 3, 0, 0, 1)})
    shutil.copytree(tmp_path, tmp_path / "left")  # as it stood when the process was killed
    left = SqliteMessageStore(tmp_path / "left" / "feed.sqlite")
    left.open()
    assert (await left.load())["p"].seen == 3
    for store in (crashed, left):
        await store.close()
    again = SqliteMessageStore(path)
    again.open()
    assert (await again.load())["p"].seen == 1
    await again.close()


@pytest.mark.reliability(5)
async def test_a_damaged_chunk_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "feed.sqlite"
    store = SqliteMessageStore(path)
    store.open()
    await store.append([chunk(0, size=5000), chunk(3)])
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chunks SET bodies = x'00' WHERE first = 0")
    store = SqliteMessageStore(path)
    store.open()
    read = await store.read("p", 0)
    assert read == chunk(3)
    await store.close()


async def test_a_full_disk_refuses_and_recovers(store: SqliteMessageStore) -> None:
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 12")
    with pytest.raises(HeliometerError) as refused:
        for number in range(100):
            bodies = [os.urandom(20_000).hex().encode()]  # that does not compress
            await store.append([Chunk("p", number, 0, bodies)])
    assert refused.value.code is Code.UNAVAILABLE
    store._connection.execute("PRAGMA max_page_count = 100000")
    await store.append([chunk(900)])
    assert await store.read("p", 900) == chunk(900)


def test_a_file_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    path = tmp_path / "feed.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(MessagesUnusable, match=r"feed.sqlite"):
        SqliteMessageStore(path).open()
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(MessagesUnusable, match="newer version"):
        SqliteMessageStore(path).open()
