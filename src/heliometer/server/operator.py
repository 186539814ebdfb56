"""What operator commands do on the data directory themselves, also while a server runs on it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from heliometer.config import Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.audit import AuditEntry, AuditFilter
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.audit import SqlAuditStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore

T = TypeVar("T")


def manage_users(settings: Settings, work: Callable[[BuiltinIdentity], Awaitable[T]]) -> T:
    """Do ``work`` on the users and projects of the data directory; return what it returns.

    Raises CONFLICT when they are Keystone's, WrongSetting, UnusableData and whatever ``work``
    raises.
    """
    if settings.identity.backend == "keystone":
        raise HeliometerError(
            Code.CONFLICT,
            f"users and projects live in Keystone at {settings.identity.keystone_url}: manage them "
            "there, with openstack user and openstack project",
        )

    async def run() -> T:
        async with _identity(settings) as identity:
            return await work(identity)

    return asyncio.run(run())


def rotate_secrets(settings: Settings, *, force: bool) -> Mapping[str, Any]:
    """Encrypt all secrets with a new key, by the server if one runs on the data directory; the
    fields of ``Rotation``. Raises CONFLICT, UNAVAILABLE, WrongSetting and UnusableData."""
    from heliometer.server.control_client import ROTATE, command, is_running
    from heliometer.storage.sql.secret_keys import rotate

    if not settings.clustered and is_running(settings.data_dir):
        return command(settings.data_dir, ROTATE, {"force": force})

    async def run() -> Mapping[str, Any]:
        database = await Database.open(settings, make_key=False)
        try:
            return (await rotate(database, settings, force=force)).to_dict()
        finally:
            await database.close()

    _log_nothing()
    return asyncio.run(run())


def read_audit(settings: Settings, wanted: AuditFilter, limit: int) -> list[AuditEntry]:
    """Entries of the audit trail in the resource database, newest first. Raises WrongSetting and
    UnusableData."""

    async def run() -> list[AuditEntry]:
        async with _database(settings) as database:
            return await SqlAuditStore(database).find(wanted, None, limit)

    return asyncio.run(run())


def back_up_stopped(settings: Settings, target: Path) -> Mapping[str, int]:
    """Back up the embedded data of a server that does not run; how many measurements, series and
    bytes. Raises UnusableData when it does, CONFLICT and UNAVAILABLE."""
    # Not loaded for commands on users and projects: the measurements' store takes time and memory.
    from heliometer.server.backup import back_up
    from heliometer.storage.duckdb.store import DuckDBStore

    async def run() -> Mapping[str, int]:
        store = DuckDBStore(settings.data_dir / "metrics", settings.metrics)
        async with AsyncExitStack() as stack:
            resources = await Database.open(settings, make_key=False)
            stack.push_async_callback(resources.close)
            await asyncio.to_thread(store.open)
            stack.push_async_callback(store.close)
            return (await back_up(store, resources, target)).to_dict()

    _log_nothing()
    return asyncio.run(run())


@asynccontextmanager
async def _identity(settings: Settings) -> AsyncIterator[BuiltinIdentity]:
    async with _database(settings) as database:
        identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
        try:
            yield identity
        finally:
            identity.close()


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    _log_nothing()
    if not settings.resources.url:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = await Database.open(settings, make_key=False)
    try:
        yield database
    finally:
        await database.close()


def _log_nothing() -> None:
    """A failure is reported once, by the error that ends the command."""
    logging.getLogger("heliometer").addHandler(logging.NullHandler())
