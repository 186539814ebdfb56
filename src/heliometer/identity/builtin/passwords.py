"""Hashing and checking passwords with argon2id, off the event loop."""

import asyncio
import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from heliometer.core.errors import Code, HeliometerError

AT_ONCE = 2
"""Each hash takes 64 MiB and most of a core, so only this many run at the same time."""
WAITING = 100
"""How many more may wait before further ones are refused with UNAVAILABLE."""

T = TypeVar("T")


class Passwords:
    """Hashes and verifies in threads of its own."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._waiting = 0
        h = self._hasher
        salt, digest = _random(h.salt_len), _random(h.hash_len)
        # Belongs to no password, but checking one against it costs what any other check costs.
        self._nobody = (
            f"$argon2id$v=19$m={h.memory_cost},t={h.time_cost},p={h.parallelism}${salt}${digest}"
        )

    async def hash(self, password: str) -> str:
        """The hash to store, with its salt and parameters."""
        secret = _encoded(password)
        return await self._run(lambda: self._hasher.hash(secret))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is right; ``None`` (no such user) takes as long to say no."""
        expected = self._nobody if password_hash is None else password_hash
        secret = _encoded(password)
        return await self._run(lambda: _matches(self._hasher, expected, secret))

    def close(self) -> None:
        """End the threads when they are idle."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= AT_ONCE + WAITING:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "Too many sign-ins at once.",
                details="Try again in a few seconds.",
                retry_after=3,
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _matches(hasher: PasswordHasher, expected: str, secret: bytes) -> bool:
    try:
        return hasher.verify(expected, secret)
    except (VerificationError, InvalidHashError):
        return False


def _encoded(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _random(size: int) -> str:
    return base64.b64encode(os.urandom(size)).decode().rstrip("=")
