"""Tokens for callers who send their password with each request, so that it is hashed only once."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Membership
from heliometer.identity.model import Caller, unauthenticated

T = TypeVar("T")

REMEMBERED = 10_000
REFUSED_S = 30.0
"""How long a caller with a right password and a wrong project is refused without a new check."""


@dataclass(slots=True)
class _Entry:
    """What one user, password and project last led to."""

    monotonic: Callable[[], float]
    token: str = ""
    """Empty: the password is to be verified."""
    refusal: str | None = None
    """Why a right password did not help; valid until ``refused_until``, by the monotonic clock."""
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class BasicAuthCache:
    """Tokens by a keyed digest of user, password and project; the key is only in memory."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._entries: dict[bytes, _Entry] = {}

    async def caller(
        self,
        sender: tuple[str, str, str],
        authenticate: Callable[[str], Awaitable[Caller]],
        verify: Callable[[], Awaitable[T]],
        issue: Callable[[T], Awaitable[str]],
    ) -> Caller:
        """The caller behind a user, password and project.

        ``verify`` checks the password, and ``issue`` makes a token of its result for
        ``authenticate``. Raises what those raise, but UNAUTHENTICATED instead of INVALID.
        """
        with self._of(*sender) as entry:
            caller = await _known_caller(entry, authenticate)
            if caller is not None:
                return caller
            async with entry.lock:  # one waiting caller verifies for all
                caller = await _known_caller(entry, authenticate)
                if caller is None:
                    entry.token = ""
                    entry.token = await _sign_in(entry, verify, issue)
                    caller = await authenticate(entry.token)
                return caller

    @contextmanager
    def _of(self, user: str, password: str, project: str) -> Iterator[_Entry]:
        """The entry of one caller, which is kept while it is in use."""
        text = "\0".join((user, password, project))
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key).digest()
        entry = self._entries.setdefault(digest, _Entry(self._monotonic))
        entry.users += 1
        try:
            yield entry
        finally:
            entry.users -= 1
            worthless = not entry.token and entry.refusal is None
            if not entry.users and (worthless or len(self._entries) > REMEMBERED):
                # Neither guesses nor a crowd must fill the memory.
                self._entries.pop(digest, None)


def only_project(user: str, memberships: Sequence[Membership]) -> Membership:
    """The project of a user who names none; raise UNAUTHENTICATED unless there is just one."""
    if len(memberships) != 1:
        raise unauthenticated(
            f"User {user} belongs to {len(memberships)} projects: name one with ?project=NAME in "
            "the URL."
        )
    return memberships[0]


async def _sign_in(
    entry: _Entry,
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
            # The password is right, and need not be verified for each request.
            entry.refusal = error.message
            entry.refused_until = entry.monotonic() + REFUSED_S
        raise


async def _known_caller(
    entry: _Entry, authenticate: Callable[[str], Awaitable[Caller]]
) -> Caller | None:
    if entry.refusal is not None and entry.monotonic() < entry.refused_until:
        raise unauthenticated(entry.refusal)
    if not entry.token:
        return None
    try:
        return await authenticate(entry.token)
    except HeliometerError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
        return None
