"""Tokens of those who send their password with each request, so that it is hashed only once."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

REMEMBERED = 10_000


@dataclass(slots=True)
class Standing:
    """What a password was last good for."""

    token: str = ""
    """Empty: it is to be verified."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class StandingTokens:
    """By a digest of user, password and project whose key is nowhere else than in memory."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._standing: dict[bytes, Standing] = {}

    @asynccontextmanager
    async def of(self, user: str, password: str, project: str) -> AsyncIterator[Standing]:
        """That of one sender; while it has no token, one after the other."""
        text = "\0".join((user, password, project))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        standing = self._standing.setdefault(digest, Standing())
        standing.users += 1
        try:
            if standing.token:
                yield standing
            else:
                async with standing.lock:
                    yield standing
        finally:
            standing.users -= 1
            if not standing.users and (not standing.token or len(self._standing) > REMEMBERED):
                # Neither guesses nor a crowd may fill the memory.
                self._standing.pop(digest, None)
