"""PostgreSQL as the resource database: many processes write at once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import event, func
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import ColumnElement

from heliometer.core.errors import Code, HeliometerError
from heliometer.storage.sql.migrate import UnusableDatabase, migrate_postgresql
from heliometer.storage.sql.postgresql_url import Address, parse

log = logging.getLogger(__name__)

CONNECT_S = 4.0
PATIENCE_S = 6.0
"""How long to wait for a free connection, including a new one."""
ANSWER_S = 7.0
"""How long to wait for the answer to a statement. The server gives up a second earlier, so that it
does not hold up others either."""
LOCK_S = 5
"""How long to wait for a row that another transaction has locked."""
FORGOTTEN_S = 30
"""How long a transaction may be idle, if its process stalls within it, before it is ended."""
AGE_S = 1800
"""The age at which a connection is replaced, so that added servers get connections too."""
READ_ONLY = "25006"
"""SQLSTATE of a server that accepts no writes, such as a former primary."""
FOLDING = "und-x-icu"


class Postgresql:
    """Implements ``database.Engine``."""

    shared = True

    def __init__(self, engine: AsyncEngine, folding: bool) -> None:
        self.engine = engine
        self._folding = folding
        self._reader = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    @classmethod
    async def open(cls, url: str, connections: int) -> "Postgresql":
        """Open the database that the URL names; creates or upgrades its tables first."""
        address = parse(url)
        facts = await asyncio.to_thread(migrate_postgresql, address.shown, _migrator(address))
        if not facts.fsync:
            log.warning(
                "the PostgreSQL at %s runs with fsync = off: a power cut damages it", address.shown
            )
        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(connect, address),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=PATIENCE_S,
            pool_recycle=AGE_S,
        )
        event.listen(engine.sync_engine, "checkout", _check)
        event.listen(engine.sync_engine, "before_cursor_execute", _without_nul, retval=True)
        return cls(engine, facts.folding)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one consistent state of the database."""
        async with self._transaction(self._reader) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction whose statements each see what was committed before the statement; it locks
        the rows that must not change."""
        async with self._transaction(self.engine) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(PATIENCE_S):
                connection = await stack.enter_async_context(engine.connect())
            try:
                async with connection.begin():
                    try:
                        yield connection
                    except (TimeoutError, DBAPIError) as error:
                        if _is_lost(error):
                            await _cut(connection)
                        raise
            except TimeoutError:  # of the commit
                await _cut(connection)
                raise

    def fold(self, column: InstrumentedAttribute[str]) -> ColumnElement[str]:
        """The text in lower case, as Python has it, whatever the locale of the database."""
        return func.lower(column.collate(FOLDING) if self._folding else column)

    async def compact(self) -> None:
        """Do nothing: PostgreSQL's own vacuum reuses the space."""

    async def backup(self, path: Path) -> None:
        """Raise CONFLICT: the operator backs up PostgreSQL."""
        raise HeliometerError(
            Code.CONFLICT,
            "The resource database is a PostgreSQL, which this does not back up.",
            details="Use pg_dump, or what your PostgreSQL is backed up with.",
        )


async def connect(address: Address, answer_s: float = ANSWER_S) -> Any:
    """A connection of the driver, whose commits are durable before they are acknowledged."""
    connection = await asyncpg.connect(
        address.dsn,
        timeout=CONNECT_S,
        command_timeout=answer_s,
        server_settings={
            "application_name": "heliometer",
            "statement_timeout": str(int((answer_s - 1) * 1000)),
            "lock_timeout": str(LOCK_S * 1000),
            "idle_in_transaction_session_timeout": str(FORGOTTEN_S * 1000),
            "jit": "off",  # statements are short-running
        },
    )
    try:
        # Stricter values (remote_apply), and choices about replicas only (local), are kept.
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
    except BaseException:
        connection.terminate()
        raise
    return connection


def _migrator(address: Address) -> AsyncEngine:
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(connect, address, 600.0),
        poolclass=NullPool,
    )


def _check(connection: Any, record: Any, proxy: object) -> None:
    """Check that a pooled connection is still open: a restarted server has closed it."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _without_nul(
    connection: object, cursor: object, statement: str, parameters: Any, context: object, many: bool
) -> tuple[str, Any]:
    """Replace NUL characters, which PostgreSQL rejects. Stored texts have none, so that searching
    for such a text finds nothing, as on SQLite."""
    if many and parameters and not isinstance(parameters, tuple):
        return statement, [_each_without_nul(row) for row in parameters]
    return statement, _each_without_nul(parameters)


def _each_without_nul(row: Any) -> Any:
    if any(type(value) is str and "\0" in value for value in row):
        return tuple(v.replace("\0", "\N{REPLACEMENT CHARACTER}") if type(v) is str else v
                     for v in row)  # fmt: skip
    return row


def _is_lost(error: BaseException) -> bool:
    """Whether the connection is unusable: no answer, an error of the driver, or a server that
    accepts no writes."""
    if isinstance(error, DBAPIError):
        return getattr(error.orig, "sqlstate", None) in (None, READ_ONLY)
    return isinstance(error, TimeoutError)


async def _cut(connection: AsyncConnection) -> None:
    """Drop a connection at once, since it would not answer anything."""
    if connection.invalidated or connection.closed:
        return
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    if driver is not None:
        driver.terminate()
    await connection.invalidate()


__all__ = ["Postgresql", "UnusableDatabase", "connect"]
