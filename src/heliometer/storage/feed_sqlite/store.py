"""Messages of the feed in SQLite: chunks of a queue, each a compressed row.

One thread does all the work. Once ``append`` returns, its messages are on stable storage. The
bodies of a chunk are lines, since JSON has no raw line ends.
"""

import asyncio
import contextlib
import logging
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from heliometer.core.errors import Code, HeliometerError, UnusableData
from heliometer.feed.model import Chunk, Position

T = TypeVar("T")
log = logging.getLogger(__name__)

FORMAT = 1
PRAGMAS = {
    # The space of removed messages is released gradually.
    "auto_vacuum": "INCREMENTAL",
    "journal_mode": "WAL",
    # With NORMAL, acknowledged commits are lost in a power cut.
    "synchronous": "FULL",
    "busy_timeout": "5000",
}
SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (
  project_id TEXT PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL,
  delivered INTEGER NOT NULL, dropped INTEGER NOT NULL, seen INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS chunks (
  id INTEGER PRIMARY KEY, project_id TEXT NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL,
  at_ms INTEGER NOT NULL, bodies BLOB NOT NULL, UNIQUE (project_id, first)
);
CREATE INDEX IF NOT EXISTS chunks_by_age ON chunks (at_ms);
CREATE TABLE IF NOT EXISTS opened (at_s INTEGER NOT NULL);
"""
COMPRESS_FROM = 512
"""The smallest size, in bytes, of a chunk that is compressed."""
READ_MESSAGES = 1000
"""About how many messages are read at once."""
FREED_PAGES = 1000
"""How many pages are returned to the file system at a time."""


class MessagesUnusable(UnusableData):
    """The store cannot be opened. The message says why."""


class SqliteMessageStore:
    """Embedded :class:`~heliometer.feed.ports.MessageStore` in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "feed-messages")
        self._connection: sqlite3.Connection | None = None
        self._is_known = False
        """Whether it was opened by this object before."""
        self._crashed = False
        """Whether whoever had it open before did not close it."""

    def open(self) -> None:
        """Open or create the file. Raises MessagesUnusable."""
        self._thread.submit(self._open).result()

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self._run(self._close, transaction=False)
        await asyncio.to_thread(self._thread.shutdown)

    # -- the port -----------------------------------------------------------------------------

    async def load(self) -> dict[str, Position]:
        positions = await self._run(_load)
        if self._crashed:
            # What was delivered last is not recorded: it may have been any of them.
            return {name: p._replace(seen=p.next) for name, p in positions.items()}
        return positions

    async def append(self, chunks: Sequence[Chunk]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            # A chunk that could not be revoked is replaced by the one that has its numbers now.
            connection.executemany(
                "INSERT OR REPLACE INTO chunks (project_id, first, end, at_ms, bodies)"
                " VALUES (?, ?, ?, ?, ?)",
                [
                    (c.project_id, c.first, c.first + len(c.bodies), c.at_ms, _pack(c.bodies))
                    for c in chunks
                ],
            )

        await self._run(work)

    async def revoke(self, chunks: Sequence[Chunk]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "DELETE FROM chunks WHERE project_id = ? AND first = ?",
                [(c.project_id, c.first) for c in chunks],
            )

        await self._run(work)

    async def read(self, project_id: str, number: int) -> Chunk | None:
        return await self._run(lambda connection: _read(connection, project_id, number))

    async def advance(self, positions: Mapping[str, Position]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO queues"
                " (project_id, first, next, delivered, dropped, seen) VALUES (?, ?, ?, ?, ?, ?)",
                [(project_id, *position) for project_id, position in positions.items()],
            )
            connection.executemany(
                "DELETE FROM chunks WHERE project_id = ? AND first < ? AND end <= ?",
                [(project_id, p.first, p.first) for project_id, p in positions.items()],
            )

        await self._run(work)

    async def oldest(self, before_ms: int) -> dict[str, int]:
        def work(connection: sqlite3.Connection) -> dict[str, int]:
            found = connection.execute(
                "SELECT project_id, max(end) FROM chunks WHERE at_ms < ? GROUP BY project_id",
                (before_ms,),
            )
            return dict(found.fetchall())

        return await self._run(work)

    async def forget(self, project_id: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM chunks WHERE project_id = ?", (project_id,))
            connection.execute("DELETE FROM queues WHERE project_id = ?", (project_id,))

        await self._run(work)

    async def ping(self) -> None:
        """Make a real write; raises UNAVAILABLE when it fails."""
        await self.advance({"": Position(0, 0, 0, 0, int(time.time()))})

    async def shrink(self) -> None:
        """Return the space of removed messages to the file system."""
        await self._run(_shrink, transaction=False)

    # -- inside -------------------------------------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, transaction: bool = True) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._work(work, transaction)
        )

    def _work(self, work: Callable[[sqlite3.Connection], T], transaction: bool) -> T:
        try:
            if self._connection is None:
                self._open()
            connection = self._connection
            assert connection is not None
            if not transaction:
                return work(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result
        except (sqlite3.Error, MessagesUnusable) as error:
            log.error("messages of the feed cannot be stored or read: %s", error)
            raise HeliometerError(
                Code.UNAVAILABLE,
                "The feed's messages cannot be stored.",
                details="Send the request again; if it goes on, tell the operator.",
                retry_after=5,
            ) from error

    def _open(self) -> None:
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, cached_statements=32
            )
            for name, value in PRAGMAS.items():
                connection.execute(f"PRAGMA {name}={value}")
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > FORMAT:
                raise MessagesUnusable(
                    f"{self._path} was written by a newer version (format {found}); upgrade"
                )
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA user_version={FORMAT}")
            if not self._is_known:
                marked = connection.execute("SELECT 1 FROM opened").fetchone()
                self._is_known, self._crashed = True, marked is not None
            connection.execute("DELETE FROM opened")
            connection.execute("INSERT INTO opened VALUES (?)", (int(time.time()),))
            self._path.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            raise MessagesUnusable(f"cannot use {self._path}: {error}") from error
        self._connection = connection

    def _close(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):  # a full disk: as after a crash
            connection.execute("DELETE FROM opened")
        connection.close()
        self._connection = None


def _load(connection: sqlite3.Connection) -> dict[str, Position]:
    found = {
        project_id: Position(*rest)
        for project_id, *rest in connection.execute(
            "SELECT project_id, first, next, delivered, dropped, seen FROM queues"
            " WHERE project_id <> ''"
        )
    }
    ends = connection.execute("SELECT project_id, min(first), max(end) FROM chunks GROUP BY 1")
    for project_id, first, end in ends:
        known = found.get(project_id, Position(first, end, 0, 0))
        found[project_id] = known._replace(next=max(known.next, end))
    return found


def _read(connection: sqlite3.Connection, project_id: str, number: int) -> Chunk | None:
    """The following chunks without a gap, up to about ``READ_MESSAGES``."""
    rows = connection.execute(
        "SELECT first, end, at_ms, bodies FROM chunks WHERE project_id = ? AND first >="
        " coalesce((SELECT max(first) FROM chunks WHERE project_id = ? AND first <= ?"
        " AND end > ?), ?) ORDER BY first",
        (project_id, project_id, number, number, number),
    )
    bodies: list[bytes] = []
    start = at = 0
    for first, end, at_ms, packed in rows:
        if bodies and first != start + len(bodies):
            break
        found = _unpack(packed)
        if len(found) != end - first:
            log.error("a chunk of project %s is damaged and left out", project_id)
            if bodies:
                break
            continue
        if not bodies:
            start, at = first, at_ms
        bodies += found
        if len(bodies) >= READ_MESSAGES:
            break
    rows.close()
    return Chunk(project_id, start, at, bodies) if bodies else None


def _shrink(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _pack(bodies: Sequence[bytes]) -> bytes:
    lines = b"\n".join(bodies)
    return zlib.compress(lines, 1) if len(lines) >= COMPRESS_FROM else lines


def _unpack(packed: bytes) -> list[bytes]:
    """The bodies of messages; empty if the chunk is damaged."""
    if packed[:1] != b"{":
        try:
            packed = zlib.decompress(packed)
        except zlib.error:
            return []
    return packed.split(b"\n")
