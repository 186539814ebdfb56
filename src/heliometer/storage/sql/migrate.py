"""Migrates a resource database to the tables of this version.

Processes that start together take turns, and the second one finds nothing left to do. A migration
is one transaction: an interrupted one leaves no trace. Migrations only add, so that processes of
the previous version keep working until they are replaced.
"""

import asyncio
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from heliometer.core.errors import UnusableData
from heliometer.storage.sql.revisions import alembic_config, known_revisions

WAIT_MS = 60_000
"""How long to wait for another process that is migrating the same database, in milliseconds."""
TABLE_MS = 5_000
"""How long to wait for a table in use; other transactions queue up meanwhile."""
LOCK = 0x68656C696F  # "helio": PostgreSQL's number of the lock for migrations

_one_at_a_time = threading.Lock()  # Alembic's environment is global to the process.


class UnusableDatabase(UnusableData):
    """The resource database cannot be used. The message is one line: what, where, what to do."""


class Facts(NamedTuple):
    """Properties of a PostgreSQL server."""

    fsync: bool
    folding: bool
    """Whether it has the collation that handles lower case in all languages."""


def migrate_sqlite(url: URL) -> None:
    """Create or upgrade the database. Blocks; raises UnusableDatabase.

    The transaction takes SQLite's write lock first.
    """
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It holds password hashes, so only the owner may read it. SQLite's side files take its
        # mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise UnusableDatabase(
            f"cannot open the resource database {path}: {error.strerror}; "
            "make the folder writable or set server.data_dir or resources.url"
        ) from error
    engine = create_engine(
        url.set(drivername="sqlite"),
        poolclass=NullPool,
        connect_args={"timeout": WAIT_MS / 1000},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _take_write_lock)
    try:
        with _one_at_a_time, engine.begin() as connection:
            _upgrade(connection, str(path))
    except DatabaseError as error:
        raise UnusableDatabase(
            f"cannot use the resource database {path}: {error.orig}; "
            "restore it from a backup, or set resources.url to another file"
        ) from error
    finally:
        engine.dispose()


def migrate_postgresql(shown: str, engine: AsyncEngine) -> Facts:
    """Create or upgrade the tables. Blocks; to be called in a thread without an event loop. Raises
    UnusableDatabase. ``shown`` is the database's URL without the password."""
    try:
        with _one_at_a_time:
            return asyncio.run(_migrate(shown, engine))
    except (SQLAlchemyError, OSError, ValueError) as error:
        raise UnusableDatabase(
            f"cannot use the resource database {shown}: {reason(error)}; {advice(error)}"
        ) from error


def reason(error: BaseException) -> str:
    """The error of the server or the network, in one line."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def advice(error: BaseException) -> str:
    """Advice on what to do about a server's error."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    if state.startswith("28") or state == "3D000":
        return "make the user and the database with createuser and createdb, or set resources.url"
    if state == "42501":
        return "make the user the owner of the database"
    if state == "55P03":
        return "something, maybe a backup, has the tables for long; start again when it has ended"
    if state == "25006":
        return "it takes no writes; name the primary in resources.url"
    return "start PostgreSQL, or set resources.url"


async def _migrate(shown: str, engine: AsyncEngine) -> Facts:
    try:
        async with engine.begin() as connection:
            facts = await _look(connection, shown)
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {WAIT_MS}")
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {TABLE_MS}")
            await connection.run_sync(_upgrade, shown)
            return facts
    finally:
        await engine.dispose()


async def _look(connection: AsyncConnection, shown: str) -> Facts:
    found = await connection.exec_driver_sql(
        "SELECT current_setting('server_encoding'), current_setting('fsync') = 'on', "
        "EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')"
    )
    encoding, fsync, folding = tuple[Any, ...](found.one())
    if encoding != "UTF8":
        raise UnusableDatabase(
            f"cannot use the resource database {shown}: its encoding is {encoding}; "
            "make one with createdb --encoding=UTF8 --template=template0"
        )
    return Facts(fsync, folding)


def _upgrade(connection: Connection, where: str) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    known = set(known_revisions())
    for revision in MigrationContext.configure(connection).get_current_heads():
        if revision not in known:
            raise UnusableDatabase(
                f"the resource database {where} was written by a newer version of heliometer "
                f"(its revision is {revision}, this version knows up to {max(known)}); "
                "upgrade heliometer, or restore a backup made before"
            )
    command.upgrade(config, "head")


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # Transactions are started explicitly, not by the driver.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _take_write_lock(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
