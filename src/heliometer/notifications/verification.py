"""Validation codes: made when they are sent, and checked without revealing which exist
(docs/decisions/0011)."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from weakref import WeakValueDictionary

from argon2.low_level import Type, hash_secret_raw

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.core.quotas import Quotas
from heliometer.identity.model import Caller, Permission
from heliometer.identity.sign_in_limiter import SIZE
from heliometer.notifications.channels import find_channel
from heliometer.notifications.code_budgets import CodeBudgets
from heliometer.notifications.model import ValidationCode
from heliometer.notifications.ports import AddressStore, CodeStore

SHORT_DIGITS = 10
CODES_KEPT = 3
"""Codes of one address that are valid at the same time: a slow mail must not make a quick one
useless."""
FAILURES = 5
"""Wrong attempts in a project after which its codes are void."""
CODE_LENGTH = 200


class Validation:
    """Makes and checks codes. ``clock`` counts seconds since the epoch, ``steady`` seconds since
    any moment."""

    def __init__(
        self,
        addresses: AddressStore,
        codes: CodeStore,
        clock: Callable[[], float],
        steady: Callable[[], float],
        quotas: Quotas | None = None,
    ) -> None:
        self._addresses = addresses
        self._codes = codes
        self._clock = clock
        self._steady = steady
        self._budgets = CodeBudgets(quotas)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._right: dict[tuple[str, bytes], None] = {}
        """Codes that were right recently, the latest last, by project and digest."""
        self._hashing = asyncio.Semaphore(2)  # each hash takes 64 MiB

    async def make_code(self, address_id: str) -> tuple[str, str] | None:
        """A new code for an address: the short form, and the long one where the channel has it.

        Only digests of it are kept. ``None``: the address is gone, or verified.
        """
        address = await self._addresses.find(address_id)
        channel = find_channel(address.type) if address else None
        if address is None or channel is None or channel.code is None:
            return None
        short = "".join(secrets.choice("0123456789") for _ in range(SHORT_DIGITS))
        long = secrets.token_hex(24) if channel.code.has_long_form else ""
        code = ValidationCode(
            address_id,
            await self._short_hash(address.project_id, short),
            _digest(long) if long else b"",
            self._now_ms() + channel.code.life_ms,
        )
        return (short, long) if await self._codes.add(code, CODES_KEPT) else None

    async def validate(self, caller: Caller | None, client: str, code: str) -> None:
        """Use a code: its address is verified from now on.

        The short code is accepted with a token of its project only, the long one without as well.
        ``client`` is the network address that the request came from. Raises NOT_FOUND for a code
        that is wrong, used or expired, MALFORMED for what cannot be a code, RATE_LIMITED after too
        many wrong ones, and FORBIDDEN for a caller who may not change the project.
        """
        text = code.strip()
        if not 1 <= len(text) <= CODE_LENGTH or not re.fullmatch(r"[A-Za-z0-9_-]+", text):
            raise Malformed("validation_code: is not a code that this service sends.")
        project = ""
        if caller is not None:
            caller.require(Permission.MANAGE)
            project = caller.project_id
        if await self._use(project, client, text):
            return
        raise HeliometerError(
            Code.NOT_FOUND,
            "There is no such validation code.",
            details="It may be used, expired or mistyped. Without a token only the long code of "
            "an e-mail is good.",
        )

    async def _use(self, project: str, client: str, text: str) -> bool:
        now = self._now_ms()
        known = (project, _digest(text))
        # One at a time in a project, so that no more guesses are compared with a code than its
        # failures allow, and of several requests with the right one all but the first learn that
        # it was right.
        async with self._lock(project):
            found = await self._codes.find_long(known[1], now)
            if found is None:
                if known not in self._right:
                    await self._budgets.check(project, client, self._steady())
                found = await self._find_short(project, text, now)
            if found is not None:
                self._remember(known)
                return await self._addresses.verify(found.address_id, now, "validation")
            if known not in self._right:
                await self._budgets.charge(project, client, self._steady())
                if project:
                    await self._codes.count_failure(project, FAILURES)
            return False

    async def _find_short(self, project: str, text: str, now: int) -> ValidationCode | None:
        if not project or len(text) != SHORT_DIGITS:
            return None
        codes = await self._codes.valid(project, now)
        # The time this takes tells whether there are any, as the list of addresses does too.
        hashed = await self._short_hash(project, text) if codes else ""
        right = [c for c in codes if hmac.compare_digest(c.short_hash, hashed)]
        return right[0] if right else None

    async def _short_hash(self, project: str, short: str) -> str:
        """Slow on purpose: ten digits are soon guessed. Salted by project, so that one hash can be
        compared with all of a project's codes."""
        salt = hashlib.sha256(f"heliometer validation {project}".encode()).digest()[:16]
        async with self._hashing:
            raw = await asyncio.to_thread(
                hash_secret_raw, short.encode(), salt, 3, 65_536, 4, 32, Type.ID
            )
        return raw.hex()

    def _lock(self, project: str) -> asyncio.Lock:
        # Requests without a token do not wait for each other: long codes cannot be guessed.
        return self._locks.setdefault(project, asyncio.Lock()) if project else asyncio.Lock()

    def _remember(self, known: tuple[str, bytes]) -> None:
        self._right[known] = None
        if len(self._right) > SIZE:
            del self._right[next(iter(self._right))]

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
