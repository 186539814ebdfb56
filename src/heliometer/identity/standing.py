"""Tokens of those who send their password with each request, so that it is hashed only once."""

import asyncio
import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

REMEMBERED = 10_000


@dataclass(slots=True)
class Standing:
    """What a password was last good for."""

    token: str = ""
    """Empty: it is to be verified."""
    refusal: str | None = None
    """Why a right password was of no use, until then by a clock that nobody sets."""
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class StandingTokens:
    """By a digest of user, password and project whose key is nowhere else than in memory."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._standing: dict[bytes, Standing] = {}

    @contextmanager
    def of(self, user: str, password: str, project: str) -> Iterator[Standing]:
        """That of one sender."""
        text = "\0".join((user, password, project))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        standing = self._standing.setdefault(digest, Standing())
        standing.users += 1
        try:
            yield standing
        finally:
            standing.users -= 1
            worthless = not standing.token and standing.refusal is None
            if not standing.users and (worthless or len(self._standing) > REMEMBERED):
                # Neither guesses nor a crowd may fill the memory.
                self._standing.pop(digest, None)
