"""What operator commands share: the directory of users and projects in the data directory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from heliometer.cli.errors import CommandError

if TYPE_CHECKING:
    from heliometer.identity.builtin.service import BuiltinIdentity

T = TypeVar("T")


def manage(
    config: Path | None, data_dir: str | None, work: Callable[["BuiltinIdentity"], Awaitable[T]]
) -> T:
    """Do ``work`` on the directory, also while a server runs on it; return what it returns.

    Raises WrongSetting, UnusableDatabase and whatever ``work`` raises.
    """

    async def run() -> T:
        async with _directory(config, data_dir) as directory:
            return await work(directory)

    return asyncio.run(run())


@asynccontextmanager
async def _directory(config: Path | None, data_dir: str | None) -> AsyncIterator["BuiltinIdentity"]:
    from heliometer.cli.options import load_settings
    from heliometer.identity.builtin.service import BuiltinIdentity
    from heliometer.storage.sql.accounts import SqlAccountStore
    from heliometer.storage.sql.database import Database
    from heliometer.storage.sql.tokens import SqlTokenStore

    settings = load_settings(config, data_dir)
    if settings.identity.backend == "keystone":
        raise CommandError(
            f"users and projects live in Keystone at {settings.identity.keystone_url}: manage them "
            "there, with openstack user and openstack project"
        )
    # What fails is told once, by the error that ends the command.
    logging.getLogger("heliometer").addHandler(logging.NullHandler())
    async with AsyncExitStack() as stack:
        if not settings.resources.url:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = await Database.open(settings)
        stack.push_async_callback(database.close)
        identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
        stack.callback(identity.close)
        yield identity
