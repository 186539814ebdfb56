"""A built-in identity on a database of its own, with clocks that tests turn."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from heliometer.config import ServerSettings, Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Token, TokenOwner
from heliometer.identity.builtin.passwords import Passwords
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from old_users import add_user

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    """A clock in seconds that stands still unless it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Tokens:
    """The real token store, with a count of look-ups and a switch to break it."""

    def __init__(self, store: SqlTokenStore) -> None:
        self.store = store
        self.finds = 0
        self.broken = False

    async def find(self, digest: bytes) -> TokenOwner | None:
        self.finds += 1
        if self.broken:
            raise HeliometerError(Code.UNAVAILABLE, "broken")
        return await self.store.find(digest)

    async def add(self, token: Token, *, password_hash: str | None, parent: bytes | None) -> bool:
        return await self.store.add(token, password_hash=password_hash, parent=parent)

    async def remove(self, digest: bytes) -> None:
        await self.store.remove(digest)

    async def remove_all(self, user_id: str) -> None:
        await self.store.remove_all(user_id)

    async def remove_expired(self, before: int, limit: int) -> int:
        return await self.store.remove_expired(before, limit)


@dataclass
class World:
    """An identity with what it stands on."""

    database: Database
    tokens: Tokens
    clock: Clock
    monotonic: Clock
    identity: BuiltinIdentity
    passwords: Passwords

    def another(self) -> BuiltinIdentity:
        """Another process on the same database."""
        return BuiltinIdentity(
            SqlAccountStore(self.database),
            SqlTokenStore(self.database),
            Settings(),
            self.clock,
            monotonic=self.monotonic,
            passwords=Passwords(CHEAP),
        )

    def pass_time(self, seconds: float) -> None:
        """Move both clocks."""
        self.clock.now += seconds
        self.monotonic.now += seconds


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = Settings(server=ServerSettings(data_dir=str(tmp_path)))
    database = await Database.open(settings)
    tokens = Tokens(SqlTokenStore(database))
    clock, monotonic, passwords = Clock(), Clock(1000.0), Passwords(CHEAP)
    identity = BuiltinIdentity(
        SqlAccountStore(database),
        tokens,
        settings,
        clock,
        monotonic=monotonic,
        passwords=passwords,
    )
    await identity.create_project("shop")
    await identity.create_project("stock")
    await add_user(database, "ann", "shop")
    yield World(database, tokens, clock, monotonic, identity, passwords)
    identity.close()
    await database.close()
