"""SQLite as the resource database: one file, one process that writes."""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, func
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import ColumnElement

from heliometer.config import WrongSetting
from heliometer.core.errors import Code, HeliometerError
from heliometer.storage.sql.migrate import migrate_sqlite

log = logging.getLogger(__name__)

PRAGMAS = {
    "busy_timeout": "5000",
    "journal_mode": "WAL",
    # With NORMAL, acknowledged commits are lost in a power cut.
    "synchronous": "FULL",
    "foreign_keys": "ON",
}


class Sqlite:
    """Implements ``database.Engine``."""

    shared = False

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        # SQLite has one writer; waiting here is fair, SQLite's own waiting is by polling.
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, text: str) -> "Sqlite":
        """Open the file that the URL names; create or upgrade it first."""
        url = _url(text)
        await asyncio.to_thread(migrate_sqlite, url)
        engine = create_async_engine(url, connect_args={"factory": _Connection})
        event.listen(engine.sync_engine, "connect", _prepare)
        event.listen(engine.sync_engine, "begin", _begin)
        return cls(engine)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads one state."""
        async with self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes, one at a time."""
        async with self._writer, self.engine.connect() as connection:
            await connection.execution_options(heliometer_begin="BEGIN IMMEDIATE")
            async with connection.begin():
                yield connection

    def fold(self, column: InstrumentedAttribute[str]) -> ColumnElement[str]:
        """The text in lower case, as Python has it."""
        return func.lower(column)

    async def compact(self) -> None:
        """Write the file anew, without free pages."""
        source = self.engine.url.database
        assert source is not None
        async with self._writer:
            await asyncio.to_thread(_compact, Path(source))

    async def backup(self, path: Path) -> None:
        """Write a copy to ``path``, as a whole or not at all."""
        source = self.engine.url.database
        assert source is not None
        await asyncio.to_thread(_copy, Path(source), path)


class _Connection(sqlite3.Connection):
    """Rolls back before it closes. Otherwise one whose caller was cancelled would keep its lock for
    as long as anything refers to a result that was not read to its end."""

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


def _compact(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        log.warning("the resource database could not be compacted: %s", error)


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise WrongSetting(
            f"resources.url: {text!r} is not allowed: allowed: sqlite:///FILE"
        ) from error
    if url.database in (None, "", ":memory:") or url.query:
        raise WrongSetting(
            f"resources.url: {text!r} is not allowed: it must name a file, as in sqlite:///FILE"
        )
    return url.set(drivername="sqlite+aiosqlite")


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # Transactions are started explicitly, not by the driver.
    cursor = connection.cursor()
    for name, value in PRAGMAS.items():
        cursor.execute(f"PRAGMA {name}={value}")
    cursor.close()
    # SQLite's own function handles ASCII only.
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)


def _begin(connection: Connection) -> None:
    # A writer takes the lock first: a reader that became a writer would fail without waiting.
    connection.exec_driver_sql(connection.get_execution_options().get("heliometer_begin", "BEGIN"))


def _copy(source: Path, path: Path) -> None:
    if path.exists():
        raise HeliometerError(
            Code.CONFLICT, f"{path} exists.", details="Back up to a file that does not."
        )
    partial = path.with_name(f"{path.name}.part-{os.getpid()}-{time.monotonic_ns()}")
    try:
        # SQLite fills an empty file; creating it first keeps it private from the start.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(source, timeout=5)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        _sync(partial)
        os.link(partial, path)  # Unlike a rename, this never replaces a file.
        _sync(path.parent)
    except FileExistsError as error:
        raise HeliometerError(Code.CONFLICT, f"{path} exists.") from error
    except (sqlite3.Error, OSError) as error:
        raise HeliometerError(Code.UNAVAILABLE, f"The backup to {path} failed: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
