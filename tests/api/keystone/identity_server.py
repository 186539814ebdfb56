"""A server whose users these tests may fail to sign in as without being slowed."""

import asyncio
from collections.abc import Iterator

import pytest

from conftest import RunningServer
from heliometer.config import Settings
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from old_users import add_user


@pytest.fixture(scope="module")
def identity_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with users ann (in shop and stock) and bob (in shop)."""
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_LIMITS_SIGN_IN_FAILURES": "100000",
    }
    running = RunningServer(tmp_path_factory.mktemp("identity") / "var", environment).start()
    asyncio.run(_populate(running.settings))
    yield running.url
    assert running.stop() == 0


async def _populate(settings: Settings) -> None:
    """Add the users behind the running server's back, as the operator's commands do."""
    database = await Database.open(settings)
    identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
    for project in ("shop", "stock"):
        await identity.create_project(project)
    for user in ("ann", "bob"):
        await add_user(database, user, "shop")
    await identity.grant("ann", "stock", "member")
    identity.close()
    await database.close()
