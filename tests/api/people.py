"""Users of a server: one of every role in project ``shop``, and one in project ``stock``."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from conftest import RunningServer
from heliometer.config import Settings
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from old_users import add_user

BODY_LIMIT = 1 << 20
USERS = {"reader": "shop", "member": "shop", "agent": "shop", "admin": "shop", "stranger": "stock"}
"""Each has the role of its name; the stranger is a member."""


@dataclass
class People:
    """The server, and tokens of its users."""

    server: RunningServer
    projects: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, user: str) -> str:
        """A token of a user, scoped to its project."""
        if user not in self.tokens:
            self.tokens[user] = self.server.token(user, USERS[user], "secret")
        return self.tokens[user]

    def client(self, user: str = "member") -> httpx.Client:
        """An HTTP client that sends the user's token."""
        return self.server.client(self.token(user))


async def populate(settings: Settings) -> dict[str, str]:
    """Add projects and users behind the running server's back, as the operator's commands do."""
    database = await Database.open(settings)
    identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
    projects = {name: await identity.create_project(name) for name in ("shop", "stock")}
    for user, project in USERS.items():
        role = "member" if user == "stranger" else user
        await add_user(database, user, project, role)
    identity.close()
    await database.close()
    return projects


@contextmanager
def server_with_people(data_dir: Path) -> Iterator[People]:
    """A server with all of them."""
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_LIMITS_BODY_BYTES": str(BODY_LIMIT),
    }
    running = RunningServer(data_dir, environment).start()
    yield People(running, asyncio.run(populate(running.settings)))
    assert running.stop() == 0
