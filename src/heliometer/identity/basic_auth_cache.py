"""Tokens of those who send their password with each request, so that it is hashed only once."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Membership
from heliometer.identity.model import Caller
from heliometer.identity.signing import unauthenticated

T = TypeVar("T")

REMEMBERED = 10_000
REFUSED_S = 30.0
"""How long a sender with a right password and a wrong project is refused without looking again."""


@dataclass(slots=True)
class BasicAuthCache:
    """What a password was last good for."""

    monotonic: Callable[[], float]
    token: str = ""
    """Empty: it is to be verified."""
    refusal: str | None = None
    """Why a right password was of no use, until then by a clock that nobody sets."""
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class StandingTokens:
    """By a digest of user, password and project whose key is nowhere else than in memory."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._standing: dict[bytes, BasicAuthCache] = {}

    async def caller(
        self,
        sender: tuple[str, str, str],
        authenticate: Callable[[str], Awaitable[Caller]],
        verify: Callable[[], Awaitable[T]],
        issue: Callable[[T], Awaitable[str]],
    ) -> Caller:
        """The caller behind a user, password and project.

        ``verify`` checks the password, and ``issue`` makes a token of what that found, which
        ``authenticate`` knows. Raises what those raise, and UNAUTHENTICATED for INVALID.
        """
        with self._of(*sender) as standing:
            caller = await _standing_caller(standing, authenticate)
            if caller is not None:
                return caller
            async with standing.lock:  # of those who wait, one is verified for all
                caller = await _standing_caller(standing, authenticate)
                if caller is None:
                    standing.token = ""
                    standing.token = await _sign_in(standing, verify, issue)
                    caller = await authenticate(standing.token)
                return caller

    @contextmanager
    def _of(self, user: str, password: str, project: str) -> Iterator[BasicAuthCache]:
        """That of one sender."""
        text = "\0".join((user, password, project))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        standing = self._standing.setdefault(digest, BasicAuthCache(self._monotonic))
        standing.users += 1
        try:
            yield standing
        finally:
            standing.users -= 1
            worthless = not standing.token and standing.refusal is None
            if not standing.users and (worthless or len(self._standing) > REMEMBERED):
                # Neither guesses nor a crowd may fill the memory.
                self._standing.pop(digest, None)


def only_project(user: str, memberships: Sequence[Membership]) -> Membership:
    """The project of a user who names none; raise UNAUTHENTICATED unless there is just one."""
    if len(memberships) != 1:
        raise unauthenticated(
            f"User {user} belongs to {len(memberships)} projects: name one with ?project=NAME in "
            "the URL."
        )
    return memberships[0]


async def _sign_in(
    standing: BasicAuthCache,
    verify: Callable[[], Awaitable[T]],
    issue: Callable[[T], Awaitable[str]],
) -> str:
    try:
        proved = await verify()
    except HeliometerError as error:
        if error.code is Code.INVALID:
            raise unauthenticated(error.message) from error
        raise
    try:
        return await issue(proved)
    except HeliometerError as error:
        if error.code is Code.UNAUTHENTICATED:
            # The password is right and stays so: it need not be verified for each request.
            standing.refusal = error.message
            standing.refused_until = standing.monotonic() + REFUSED_S
        raise


async def _standing_caller(
    standing: BasicAuthCache, authenticate: Callable[[str], Awaitable[Caller]]
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
