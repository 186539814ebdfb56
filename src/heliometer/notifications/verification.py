"""Validation codes: made when they are sent, and checked without telling which exist
(RELIABILITY, trap 1 and test 18; docs/decisions/0011)."""

import asyncio
import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Callable
from weakref import WeakValueDictionary

from argon2.low_level import Type, hash_secret_raw

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Caller, Permission
from heliometer.identity.throttle import SIZE, Budgets, Key, network
from heliometer.notifications.model import EMAIL, SMS, NotificationStore, ValidationCode

CODE_LIFE_MS = {SMS: 600_000, EMAIL: 86_400_000}
"""How long a code of each type is good."""
SHORT_DIGITS = 10
CODES_KEPT = 3
"""Codes of one address that are good at the same time: a slow mail must not void a quick one."""
FAILURES = 5
"""Wrong tries in a project after which its open codes are void."""
TRIES = 30
TRIES_OVERALL = 1000
SPAN_S = 600.0
"""Seconds in which a project or a client earns TRIES wrong tries, and all together TRIES_OVERALL;
more are refused."""
CODE_LENGTH = 200


class Validation:
    """Makes and checks codes. ``clock`` counts seconds since the epoch, ``steady`` any seconds."""

    def __init__(
        self,
        store: NotificationStore,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._steady = steady
        self._projects = Budgets(TRIES, SPAN_S / TRIES, SIZE)
        self._clients = Budgets(TRIES, SPAN_S / TRIES, SIZE)
        self._overall = Budgets(TRIES_OVERALL, SPAN_S / TRIES_OVERALL, SIZE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._right: dict[tuple[str, bytes], None] = {}
        """Codes that were right of late, the latest last, by who may use them and digest."""
        self._hashing = asyncio.Semaphore(2)  # each hash takes 64 MiB

    async def make_code(self, address_id: str) -> tuple[str, str] | None:
        """A new code for an address: the short form, and for an e-mail the long one.

        Only digests of it are kept. ``None``: the address is gone, or verified.
        """
        address = await self._store.find_address(address_id)
        if address is None:
            return None
        short = "".join(secrets.choice("0123456789") for _ in range(SHORT_DIGITS))
        long = secrets.token_hex(24) if address.type == EMAIL else ""
        code = ValidationCode(
            address_id,
            await self._short_hash(address.project_id, short),
            _digest(long) if long else b"",
            int(self._clock() * 1000) + CODE_LIFE_MS[address.type],
        )
        return (short, long) if await self._store.add_code(code, CODES_KEPT) else None

    async def validate(self, caller: Caller | None, client: str, code: str) -> None:
        """Use up a code: its address is verified from now on.

        The short code is good with a token of its project only, the long one without as well.
        ``client`` is the network address that the request came from. Raises NOT_FOUND for a code
        that is wrong, used or expired, MALFORMED for what can be none, RATE_LIMITED after too many
        wrong ones, and FORBIDDEN for a caller who may not change the project.
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
        now = int(self._clock() * 1000)
        known = (project, _digest(text))
        spends = self._spends(project, client)
        # One at a time in a project: so no more guesses see a code than its failures allow, and
        # of many who have the right one, all but the first see that it was right.
        async with self._turn(project):
            found = await self._store.find_long_code(known[1], now)
            if found is None:
                if known not in self._right:
                    self._check(spends)
                found = await self._find_short(project, text, now)
            if found is not None:
                self._remember(known)
                return await self._store.verify(found.address_id, now)
            if known not in self._right:
                self._spend(spends)
                if project:
                    await self._store.code_failed(project, FAILURES)
            return False

    async def _find_short(self, project: str, text: str, now: int) -> ValidationCode | None:
        if not project or len(text) != SHORT_DIGITS:
            return None
        codes = await self._store.codes(project, now)
        # That there are any, the project's list of addresses tells as well.
        hashed = await self._short_hash(project, text) if codes else ""
        right = [c for c in codes if hmac.compare_digest(c.short_hash, hashed)]
        return right[0] if right else None

    async def _short_hash(self, project: str, short: str) -> str:
        """Slow on purpose: ten digits are quickly tried. Salted by project, so that one hash is
        compared with all of a project's codes."""
        salt = hashlib.sha256(f"heliometer validation {project}".encode()).digest()[:16]
        async with self._hashing:
            raw = await asyncio.to_thread(
                hash_secret_raw, short.encode(), salt, 3, 65_536, 4, 32, Type.ID
            )
        return raw.hex()

    def _turn(self, project: str) -> asyncio.Lock:
        # Who has no token is not held up: the long codes cannot be guessed.
        return self._turns.setdefault(project, asyncio.Lock()) if project else asyncio.Lock()

    def _spends(self, project: str, client: str) -> list[tuple[Budgets, Key]]:
        # Strangers have an overall budget of their own: they cannot spend that of the signed in.
        overall = ("signed in" if project else "open", "")
        spends = [(self._clients, ("", network(client))), (self._overall, overall)]
        return [*spends, (self._projects, (project, ""))] if project else spends

    def _check(self, spends: list[tuple[Budgets, Key]]) -> None:
        wait_s = max(budgets.wait_s(key, self._steady()) for budgets, key in spends)
        if wait_s > 0:
            raise HeliometerError(
                Code.RATE_LIMITED,
                "Too many wrong validation codes.",
                details="Wait, and use the code of the newest message.",
                retry_after=math.ceil(wait_s),
            )

    def _spend(self, spends: list[tuple[Budgets, Key]]) -> None:
        for budgets, key in spends:
            budgets.start(key)
            budgets.finish(key, self._steady(), failed=True)

    def _remember(self, known: tuple[str, bytes]) -> None:
        self._right[known] = None
        if len(self._right) > SIZE:
            del self._right[next(iter(self._right))]


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
