"""Tokens of those who send their password with each request, so that it is hashed only once."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from heliometer.identity.signing import unauthenticated
from heliometer.model.errors import Code, HeliometerError
from heliometer.model.identity import Caller

REMEMBERED = 10_000
REFUSED_S = 30.0
"""How long a sender with a right password and a wrong project is refused without looking again."""


@dataclass(slots=True)
class Standing:
    """What a password was last good for."""

    monotonic: Callable[[], float]
    token: str = ""
    """Empty: it is to be verified."""
    refusal: str | None = None
    """Why a right password was of no use, until then by a clock that nobody sets."""
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0

    def refuse(self, why: str) -> None:
        """The password is right and stays so: it need not be verified for each of its requests."""
        self.refusal = why
        self.refused_until = self.monotonic() + REFUSED_S


class StandingTokens:
    """By a digest of user, password and project whose key is nowhere else than in memory."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._standing: dict[bytes, Standing] = {}

    async def caller(
        self,
        sender: tuple[str, str, str],
        authenticate: Callable[[str], Awaitable[Caller]],
        sign_in: Callable[[Standing], Awaitable[str]],
    ) -> Caller:
        """The caller behind a user, password and project. ``sign_in`` makes a token for them,
        which ``authenticate`` knows; raises what those raise."""
        with self.of(*sender) as standing:
            caller = await _standing_caller(standing, authenticate)
            if caller is not None:
                return caller
            async with standing.lock:  # of those who wait, one is verified for all
                caller = await _standing_caller(standing, authenticate)
                if caller is None:
                    standing.token = ""
                    standing.token = await sign_in(standing)
                    caller = await authenticate(standing.token)
                return caller

    @contextmanager
    def of(self, user: str, password: str, project: str) -> Iterator[Standing]:
        """That of one sender."""
        text = "\0".join((user, password, project))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        standing = self._standing.setdefault(digest, Standing(self._monotonic))
        standing.users += 1
        try:
            yield standing
        finally:
            standing.users -= 1
            worthless = not standing.token and standing.refusal is None
            if not standing.users and (worthless or len(self._standing) > REMEMBERED):
                # Neither guesses nor a crowd may fill the memory.
                self._standing.pop(digest, None)


async def _standing_caller(
    standing: Standing, authenticate: Callable[[str], Awaitable[Caller]]
) -> Caller | None:
    if standing.refusal is not None and standing.monotonic() < standing.refused_until:
        raise unauthenticated(standing.refusal)
    if not standing.token:
        return None
    try:
        return await authenticate(standing.token)
    except HeliometerError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
        return None
