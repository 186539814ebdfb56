"""Brings a resource database to the tables that this version of the code wants."""

import os
import sqlite3
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

WAIT_MS = 60_000
"""How long to wait for another process that is migrating the same database."""

_one_at_a_time = threading.Lock()  # Alembic's environment is global to the process.


class UnusableDatabase(Exception):
    """The resource database cannot be used. The message is one line: what, where, what to do."""


def migrate(url: URL) -> None:
    """Create or upgrade the database, in one transaction. Blocks; raises UnusableDatabase.

    Processes that start at once take turns: the transaction takes SQLite's write lock first, and
    whoever comes second finds nothing left to do. A migration that is interrupted leaves no trace.
    """
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It holds password hashes: nobody else may read it. SQLite's side files take its mode.
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
            _upgrade(connection, path)
    except DatabaseError as error:
        raise UnusableDatabase(
            f"cannot use the resource database {path}: {error.orig}; "
            "restore it from a backup, or set resources.url to another file"
        ) from error
    finally:
        engine.dispose()


def _upgrade(connection: Connection, path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", "heliometer.stores.resources:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    for revision in MigrationContext.configure(connection).get_current_heads():
        if revision not in known:
            raise UnusableDatabase(
                f"the resource database {path} was written by a newer version of heliometer "
                f"(its revision is {revision}, this version knows up to {max(known)}); "
                "upgrade heliometer, or restore a backup made before"
            )
    command.upgrade(config, "head")


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # Transactions begin where we say, not the driver.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _take_write_lock(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
