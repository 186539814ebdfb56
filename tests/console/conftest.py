"""A server with visitors of every role."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from conftest import RunningServer
from console.visitor import Visitor
from heliometer.config import Settings
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from old_users import add_user

USERS = {
    "reader": [("shop", "reader")],
    "member": [("shop", "member")],
    "admin": [("shop", "admin")],
    "stranger": [("stock", "member")],
    "both": [("shop", "member"), ("stock", "reader")],
    "leaver": [("shop", "member")],
    "guessed": [("stock", "member")],
    "vandal": [("waste", "admin")],
    "guest": [("shop", "member")],
    "goner": [("shop", "member"), ("ruin", "member")],
    "boss": [("shop", "reader"), ("stock", "reader")],
}
"""Each with what it may where; the password is ``secret``. The boss is an operator."""


@dataclass
class Site:
    """The server, and who is signed in there."""

    server: RunningServer
    projects: dict[str, str]
    """Ids by name."""
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.server.url

    def client(self, user: str, project: str) -> httpx.Client:
        """A client of the API, which the token of this user's console is not."""
        if user not in self.tokens:
            self.tokens[user] = self.server.token(user, project, "secret")
        return self.server.client(self.tokens[user])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server with its users, for a module."""
    running = RunningServer(
        tmp_path_factory.mktemp("console") / "var", {"HELIOMETER_COLLECTOR_ENABLED": "false"}
    ).start()
    yield Site(running, asyncio.run(populate(running.settings)))
    assert running.stop() == 0


@pytest.fixture(scope="module")
def signed_in(site: Site) -> Iterator[Callable[[str], Visitor]]:
    """Gives the visitor that is a user, signed in once; others of a test sign in by themselves."""
    visitors: dict[str, Visitor] = {}

    def of(user: str) -> Visitor:
        if user not in visitors:
            visitor = visitors[user] = Visitor(site.url)
            assert visitor.sign_in(user).status_code == 303
        return visitors[user]

    yield of
    for visitor in visitors.values():
        visitor.http.close()


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    """Somebody who is not signed in."""
    with Visitor(site.url) as anybody:
        yield anybody


async def populate(settings: Settings) -> dict[str, str]:
    """Add projects and users behind the running server's back, as the operator's commands do."""
    database = await Database.open(settings)
    identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
    names = {project for grants in USERS.values() for project, _ in grants}
    projects = {name: await identity.create_project(name) for name in sorted(names)}
    for user, ((project, role), *more) in USERS.items():
        await add_user(database, user, project, role)
        for other, other_role in more:
            await identity.grant(user, other, other_role)
    await identity.set_operator("boss", True)
    identity.close()
    await database.close()
    return projects
