"""Who calls: where users, projects and tokens come from."""

import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from heliometer.config import BOOTSTRAP_PASSWORD, Settings, from_variable
from heliometer.core.quotas import Quotas
from heliometer.identity.accounts import Project
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.keystone.client import Keystone
from heliometer.identity.keystone.projects import KeystoneProjects
from heliometer.identity.keystone.service import KeystoneIdentity
from heliometer.projects.ports import ProjectStore
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.keystone_projects import SqlProjectMirror
from heliometer.storage.sql.projects import SqlProjectStore
from heliometer.storage.sql.tokens import SqlTokenStore


@dataclass(frozen=True, slots=True)
class People:
    """An identity, and what else depends on where users and projects live."""

    identity: BuiltinIdentity | KeystoneIdentity
    projects: ProjectStore
    find_project: Callable[[str], Awaitable[Project | None]]
    """The enabled project of an id or name; raises UNAVAILABLE."""
    probes: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What health asks, by name."""

    async def purge_expired(self) -> None:
        """Forget tokens that ended, where they are kept here."""
        if isinstance(self.identity, BuiltinIdentity):
            await self.identity.purge_expired()


@asynccontextmanager
async def load_identity(
    settings: Settings,
    database: Database,
    clock: Callable[[], float] = time.time,
    quotas: Quotas | None = None,
) -> AsyncIterator[People]:
    """The identity that ``identity.backend`` names. Raises WrongSetting. The first start of the
    built-in one creates project and user ``demo``. Keystone need not be running yet: until it is,
    sign-ins fail."""
    store = SqlProjectStore(database)
    if settings.identity.backend == "keystone":
        keystone = Keystone(settings.identity, clock, time.monotonic)
        try:
            projects = KeystoneProjects(
                keystone,
                store,
                SqlProjectMirror(database),
                settings.identity.keystone_domain,
                time.monotonic,
            )
            identity = KeystoneIdentity(keystone, projects, settings, clock, quotas=quotas)
            yield People(identity, projects, projects.find, {"identity": keystone.ping})
        finally:
            await keystone.close()
        return
    accounts = SqlAccountStore(database)
    builtin = BuiltinIdentity(accounts, SqlTokenStore(database), settings, clock, quotas=quotas)
    try:
        await _bootstrap(builtin)
        yield People(builtin, store, accounts.find_project)
    finally:
        builtin.close()


async def _bootstrap(identity: BuiltinIdentity) -> None:
    """On the first start create project and user ``demo``, and print the password once."""
    given = from_variable(os.environ, BOOTSTRAP_PASSWORD) or None
    made = await identity.bootstrap(given)
    if made is not None and given is None:
        print(
            "first start: made project demo and user demo with the password "
            f"{made}\n"
            "  (shown this once; change it with: heliometer user password demo)",
            file=sys.stderr,
            flush=True,
        )
