"""The resource database: connections, transactions, health and backup."""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from heliometer.config import Settings, WrongSetting
from heliometer.model.errors import Code, HeliometerError
from heliometer.stores.resources.migrate import migrate
from heliometer.stores.resources.tables import AuditRow, ProbeRow

log = logging.getLogger(__name__)

PRAGMAS = {
    "busy_timeout": "5000",
    "journal_mode": "WAL",
    # With NORMAL, acknowledged commits are lost in a power cut.
    "synchronous": "FULL",
    "foreign_keys": "ON",
}
RETRY_AFTER_S = 5


class Database:
    """Gives out transactions. What leaves a ``write()`` block without an error is durable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # SQLite has one writer; waiting here is fair, SQLite's own waiting is by polling.
        self._writer = asyncio.Lock()

    @classmethod
    async def open(cls, settings: Settings) -> "Database":
        """Open the database that the settings name; create or upgrade it first.

        Raises WrongSetting and UnusableDatabase, each with a message of one line.
        """
        url = _url(settings.resources_url)
        await asyncio.to_thread(migrate, url)
        engine = create_async_engine(url)
        event.listen(engine.sync_engine, "connect", _prepare)
        event.listen(engine.sync_engine, "begin", _begin)
        return cls(engine)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads one consistent state. Raises UNAVAILABLE."""
        with _Unavailable():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; rolled back when the block raises. Raises UNAVAILABLE."""
        with _Unavailable():
            async with self._writer, self._engine.connect() as connection:
                await connection.execution_options(heliometer_begin="BEGIN IMMEDIATE")
                async with connection.begin():
                    yield connection

    async def ping(self) -> None:
        """Write for real, then read it back; raise UNAVAILABLE when either fails."""
        now = milliseconds()
        async with self.write() as connection:
            put = insert(ProbeRow).values(id=1, at=now)
            await connection.execute(put.on_conflict_do_update(set_={"at": now}))
        async with self.read() as connection:
            found = (await connection.execute(select(ProbeRow.at))).scalar_one_or_none()
        if found is None:
            raise unavailable()

    async def backup(self, path: Path) -> None:
        """Write a consistent copy to ``path`` while others read and write.

        The copy appears whole or not at all. Raises CONFLICT when the file exists and
        UNAVAILABLE when the copy cannot be written.
        """
        source = self._engine.url.database
        assert source is not None
        await asyncio.to_thread(_copy, Path(source), path)


async def record(
    connection: AsyncConnection,
    at: int,
    actor: str,
    action: str,
    details: str,
    project_id: str | None = None,
) -> None:
    """Add a row to the audit trail in the caller's transaction."""
    await connection.execute(
        insert(AuditRow).values(
            at=at, actor=actor[:64], project_id=project_id, action=action, details=details
        )
    )


def milliseconds() -> int:
    """Now, for rows whose time nothing depends on."""
    return time.time_ns() // 1_000_000


def unavailable() -> HeliometerError:
    """The refusal when the database cannot answer."""
    return HeliometerError(
        Code.UNAVAILABLE,
        "The resource database does not answer.",
        details="Try again; if it lasts, the operator finds the cause in the log.",
        retry_after=RETRY_AFTER_S,
    )


class _Unavailable:
    """Turns the engine's errors into UNAVAILABLE; what they say is for the log only."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, SQLAlchemyError | sqlite3.Error | OSError):
            log.error("the resource database failed: %s", getattr(error, "orig", error))
            raise unavailable() from error


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise WrongSetting(
            f"resources.url: {text!r} is not allowed: allowed: sqlite:///FILE"
        ) from error
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:") or url.query:
        raise WrongSetting(
            f"resources.url: {text!r} is not allowed: it must name a file, as in sqlite:///FILE"
        )
    return url.set(drivername="sqlite+aiosqlite")


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # Transactions begin where we say, not the driver.
    cursor = connection.cursor()
    for name, value in PRAGMAS.items():
        cursor.execute(f"PRAGMA {name}={value}")
    cursor.close()
    # SQLite's own knows ASCII only.
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)


def _begin(connection: Connection) -> None:
    # A writer takes the lock first: a reader that turns writer would fail without waiting.
    connection.exec_driver_sql(connection.get_execution_options().get("heliometer_begin", "BEGIN"))


def _copy(source: Path, path: Path) -> None:
    if path.exists():
        raise HeliometerError(
            Code.CONFLICT, f"{path} exists.", details="Back up to a file that does not."
        )
    partial = path.with_name(f"{path.name}.part-{os.getpid()}-{time.monotonic_ns()}")
    try:
        # SQLite fills an empty file; made first, it is readable to nobody else from the start.
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
