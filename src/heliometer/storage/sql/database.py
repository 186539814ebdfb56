"""The resource database: transactions, health and backup, for every engine."""

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import ColumnElement

from heliometer.config import Settings
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.core.secret_box import SecretBox
from heliometer.storage.sql.postgresql_url import is_postgresql
from heliometer.storage.sql.secret_keys import open_box
from heliometer.storage.sql.sqlite import Sqlite
from heliometer.storage.sql.tables import AuditRow, ProbeRow
from heliometer.storage.sql.transactions import RACES, LostRace, rerun, upsert

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_AFTER_S = 5
CHUNK = 500
"""The most values in one IN list."""


class Engine(Protocol):
    """The differences between databases."""

    @property
    def shared(self) -> bool:
        """Whether other processes may change the stored data."""
        ...

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine for this database."""
        ...

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that reads one consistent state."""
        ...

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may write. On SQLite it is the only one; elsewhere it locks the rows
        that it reads in order to change them (``transactions``)."""
        ...

    def fold(self, column: InstrumentedAttribute[str]) -> ColumnElement[str]:
        """SQL for a text in lower case."""
        ...

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a file."""
        ...

    async def compact(self) -> None:
        """Leave nothing of what was changed or removed in the database's files, where they are
        ours."""
        ...


class Database:
    """Opens transactions. A ``write()`` block that ends without an error is durable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.fold = engine.fold
        self.secrets = SecretBox((), "")
        """What encrypts the secrets in it."""

    @classmethod
    async def open(cls, settings: Settings, *, make_key: bool = True) -> "Database":
        """Open the database that the settings name; create or upgrade it first, and unless
        ``make_key`` is false the key for its secrets. Only the server makes one: another user or
        machine would leave it where the server cannot read it.

        Raises WrongSetting and UnusableDatabase, each with a message of one line, without the
        password.
        """
        url = settings.resources_url
        if is_postgresql(url):
            # Not imported for SQLite: the driver takes time and memory.
            from heliometer.storage.sql.postgresql import Postgresql

            database = cls(await Postgresql.open(url, settings.resources.connections))
        else:
            database = cls(await Sqlite.open(url))
        try:
            database.secrets = await open_box(database, settings, make_key=make_key)
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def shared(self) -> bool:
        """Whether other processes may change the stored data."""
        return self._engine.shared

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine, for migrations and checks."""
        return self._engine.engine

    async def refresh_secrets(self, settings: Settings) -> None:
        """Notice another key: one that is in use now, or a file that is there again."""
        box = await open_box(self, settings, make_key=False)
        # A file that went away is the doctor's to report; what is in memory still works.
        if box.is_usable or not self.secrets.is_usable or box.current != self.secrets.current:
            self.secrets = box

    async def compact(self) -> None:
        """Leave nothing of what was changed or removed in the database's files, where they are
        ours."""
        await self._engine.compact()

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads one consistent state. Raises UNAVAILABLE."""
        with _Refusals():
            async with self._engine.reading() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; rolled back when the block raises. Raises UNAVAILABLE, and
        LostRace when another transaction was faster."""
        with _Refusals():
            async with self._engine.writing() as connection:
                yield connection

    @rerun
    async def ping(self) -> None:
        """Make a real write and read it back; raises UNAVAILABLE when either fails."""
        async with self.write() as connection:
            await connection.execute(
                upsert(connection, ProbeRow, {"id": 1}, {"at": milliseconds()})
            )
        async with self.read() as connection:
            found = (await connection.execute(select(ProbeRow.at))).scalar_one_or_none()
        if found is None:
            raise unavailable()

    async def ping_read(self) -> None:
        """Read for real; raises UNAVAILABLE when that fails."""
        async with self.read() as connection:
            await connection.execute(select(ProbeRow.at))

    async def backup(self, path: Path) -> None:
        """Write a consistent copy to ``path`` while others read and write. The copy appears as a
        whole or not at all. Raises CONFLICT when the file exists or the operator backs up the
        database, and UNAVAILABLE when the copy cannot be written."""
        await self._engine.backup(path)


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


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Divide values into parts that each fit into one statement."""
    every = list(values)
    return (every[i : i + CHUNK] for i in range(0, len(every), CHUNK))


def milliseconds() -> int:
    """Now, in milliseconds, for rows on whose time nothing depends."""
    return time.time_ns() // 1_000_000


def unavailable() -> HeliometerError:
    """The error to raise when the database cannot answer."""
    return HeliometerError(
        Code.UNAVAILABLE,
        "The resource database does not answer.",
        details="Try again; if it lasts, the operator finds the cause in the log.",
        retry_after=RETRY_AFTER_S,
    )


class _Refusals:
    """Translate the engine's errors; their text only goes to the log."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, SQLAlchemyError | sqlite3.Error | OSError):
            return
        state = (getattr(error.orig, "sqlstate", "") or "") if isinstance(error, DBAPIError) else ""
        if state in RACES:
            refusal = unavailable()
            raise LostRace(
                refusal.code, refusal.message, details=refusal.details, retry_after=RETRY_AFTER_S
            ) from error
        said = str(getattr(error, "orig", None) or error) or "no answer in time"
        log.error("the resource database failed: %s", said)
        if state.startswith("22"):
            raise Invalid("A text or number is too long to be stored.") from error
        raise unavailable() from error
