"""Users whose passwords were set before there were rules for them, and go on working."""

import secrets
import time

from argon2 import PasswordHasher

from heliometer.identity.accounts import User
from heliometer.identity.builtin.passwords import Passwords
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database

OLD_PASSWORD = "secret"
"""Shorter than what a user may choose now."""


CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


async def add_user(database: Database, name: str, project: str, role: str = "member") -> str:
    """Add a user with that password to a project, behind a running server's back; its id."""
    accounts, passwords = SqlAccountStore(database), Passwords(CHEAP)
    found = await accounts.find_project(project)
    assert found is not None
    user = User(secrets.token_hex(16), name, await passwords.hash(OLD_PASSWORD))
    await accounts.add_user(user, found, role, int(time.time() * 1000), "test")
    passwords.close()
    return user.id
