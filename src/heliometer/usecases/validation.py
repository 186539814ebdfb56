"""Validation codes: made when they are sent, and checked without telling which exist
(RELIABILITY, trap 1; docs/decisions/0011)."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections import deque
from collections.abc import Callable

from argon2.low_level import Type, hash_secret_raw

from heliometer.model.errors import Code, HeliometerError, Malformed
from heliometer.model.identity import Caller
from heliometer.model.notifications import EMAIL, SMS, NotificationStore, ValidationCode

CODE_LIFE_MS = {SMS: 600_000, EMAIL: 86_400_000}
"""How long a code of each type is good."""
SHORT_DIGITS = 10
CODES_KEPT = 3
"""Codes of one address that are good at the same time: a slow mail must not void a quick one."""
FAILURES = 5
"""Wrong tries in a project after which its open codes are void."""
SPAN_S = 600.0
TRIES_A_PROJECT = 30
TRIES_A_CLIENT = 30
TRIES_OVERALL = 1000
"""Wrong tries within SPAN_S after which further ones are refused."""
CODE_LENGTH = 200


class Validation:
    """Makes and checks codes."""

    def __init__(
        self,
        store: NotificationStore,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._projects = _Budget(TRIES_A_PROJECT, steady)
        self._clients = _Budget(TRIES_A_CLIENT, steady)
        self._overall = _Budget(TRIES_OVERALL, steady)
        self._hashing = asyncio.Semaphore(2)  # each hash takes 64 MiB

    async def make_code(self, address_id: str) -> tuple[str, str] | None:
        """A new code for an address, short and long; only digests of it are kept. ``None``: the
        address is gone, or verified."""
        address = await self._store.find_address(address_id)
        if address is None:
            return None
        short = "".join(secrets.choice("0123456789") for _ in range(SHORT_DIGITS))
        long = secrets.token_urlsafe(24)
        code = ValidationCode(
            address_id,
            await self._short_hash(address.project_id, short),
            hashlib.sha256(long.encode()).digest(),
            int(self._clock() * 1000) + CODE_LIFE_MS[address.type],
        )
        return (short, long) if await self._store.add_code(code, CODES_KEPT) else None

    async def validate(self, caller: Caller | None, client: str, code: str) -> None:
        """Use up a code: its address is verified from now on.

        The short code is good with a token of its project only, the long one without as well.
        Raises NOT_FOUND for a code that is wrong, used or expired, MALFORMED for what can be none,
        and RATE_LIMITED after too many wrong ones.
        """
        text = code.strip()
        if not 1 <= len(text) <= CODE_LENGTH or not re.fullmatch(r"[A-Za-z0-9_-]+", text):
            raise Malformed("validation_code: is not a code that this service sends.")
        keys = [(self._clients, client), (self._overall, "")]
        if caller is not None:
            keys.append((self._projects, caller.project_id))
        for budget, key in keys:
            budget.check(key)
        now = int(self._clock() * 1000)
        found = await self._find(caller, text, now)
        if found is not None and await self._store.verify(found.address_id, now):
            return
        for budget, key in keys:
            budget.spend(key)
        if caller is not None:
            await self._store.code_failed(caller.project_id, FAILURES)
        raise HeliometerError(
            Code.NOT_FOUND,
            "There is no such validation code.",
            details="It may be used, expired or mistyped. Without a token only the long code of "
            "an e-mail is good.",
        )

    async def _find(self, caller: Caller | None, text: str, now: int) -> ValidationCode | None:
        digest = hashlib.sha256(text.encode()).digest()
        found = await self._store.find_long_code(digest, now)
        if found is not None or caller is None:
            return found
        hashed = await self._short_hash(caller.project_id, text[:SHORT_DIGITS])
        whole = len(text) == SHORT_DIGITS
        for each in await self._store.codes(caller.project_id, now):
            if hmac.compare_digest(each.short_hash, hashed) and whole:
                found = each
        return found

    async def _short_hash(self, project_id: str, short: str) -> str:
        """Slow on purpose: ten digits are quickly tried. Salted by project, so that one hash is
        compared with all of a project's codes."""
        salt = hashlib.sha256(f"heliometer validation {project_id}".encode()).digest()[:16]
        async with self._hashing:
            raw = await asyncio.to_thread(
                hash_secret_raw, short.encode(), salt, 3, 65_536, 4, 32, Type.ID
            )
        return raw.hex()


class _Budget:
    """How often each key may fail within a span."""

    def __init__(self, tries: int, steady: Callable[[], float]) -> None:
        self._tries = tries
        self._steady = steady
        self._failed: dict[str, deque[float]] = {}

    def check(self, key: str) -> None:
        """Raise RATE_LIMITED when the key failed too often of late."""
        failed = self._failed.get(key)
        now = self._steady()
        while failed and failed[0] <= now - SPAN_S:
            failed.popleft()
        if failed is not None and not failed:
            del self._failed[key]
        elif failed is not None and len(failed) >= self._tries:
            raise HeliometerError(
                Code.RATE_LIMITED,
                "Too many wrong validation codes.",
                details="Wait, and use the code of the newest message.",
                retry_after=max(1, int(failed[0] + SPAN_S - now) + 1),
            )

    def spend(self, key: str) -> None:
        """The key failed once more."""
        self._failed.setdefault(key, deque(maxlen=self._tries)).append(self._steady())
