"""How often something may be done that costs others: sending codes, test messages, making tokens.

A quota allows so many uses in any span of its length, for each of those whom it counts. Uses are
kept in a store, so that neither a restart nor another process begins anew.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from heliometer.core.errors import Code, HeliometerError

HOUR_S = 3600
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Quota:
    """``most`` uses in any ``span_s`` seconds."""

    name: str
    """In the service's metrics, and part of what uses are stored under."""
    most: int
    span_s: int
    message: str
    """What to say when it is used up."""

    def of(self, whose: str = "") -> "Use":
        """One use by a project, a destination or a user; by nobody in particular, all share it."""
        return Use(self, hashlib.sha256(f"{self.name}\0{whose}".encode()).digest())


class Use(NamedTuple):
    """One use of a quota by one of those whom it counts."""

    quota: Quota
    key: bytes
    """32 bytes that stand for the quota and for whoever uses it."""

    def wait_ms(self, first_ms: int | None, now_ms: int) -> int:
        """How long until the quota has a use left. ``first_ms``: when the earliest of the ``most``
        newest uses within the span was; ``None``: there are fewer."""
        if first_ms is None:
            return 0
        span_ms = self.quota.span_s * 1000
        # What was counted before the clock was set back does not last longer for it.
        return min(max(1, first_ms + span_ms - now_ms), span_ms)


class Refused(NamedTuple):
    """A use that was not counted, since its quota is used up."""

    use: Use
    wait_ms: int


def judge(uses: Sequence[Use], firsts_ms: Sequence[int | None], now_ms: int) -> Refused | None:
    """The refusal that lasts longest; ``None``: every quota has a use left. ``firsts_ms`` has, for
    each use, what ``Use.wait_ms`` asks for."""
    waits = [
        Refused(use, use.wait_ms(first, now_ms)) for use, first in zip(uses, firsts_ms, strict=True)
    ]
    longest = max(waits, key=lambda refused: refused.wait_ms, default=None)
    return longest if longest is not None and longest.wait_ms > 0 else None


class UseStore(Protocol):
    """Keeps uses. Every method raises UNAVAILABLE when the store does not answer."""

    async def take(self, uses: Sequence[Use], now_ms: int) -> Refused | None:
        """Count all uses, or none: what ``judge`` says of those within each quota's span. Of
        several callers, in whatever process, one counts after the other."""
        ...

    async def check(self, uses: Sequence[Use], now_ms: int) -> Refused | None:
        """The same without counting."""
        ...

    async def forget(self, use: Use) -> None:
        """Forget what was counted under the use's key."""
        ...

    async def purge(self, now_ms: int) -> None:
        """Remove what is past its span, and beyond the store's bound what would be past it
        soonest."""
        ...


class Quotas:
    """Counts uses in a store, and the refusals for the service's metrics. ``clock`` is the wall
    clock, in seconds: uses outlive the process."""

    def __init__(
        self, store: UseStore, clock: Callable[[], float], *, shared: bool = False
    ) -> None:
        self.shared = shared
        """Whether other processes count in the same store."""
        self._store = store
        self._clock = clock
        self.refused: Counter[str] = Counter()
        """How often each quota refused a use, by its name."""

    async def take(self, *uses: Use) -> None:
        """Count a use of each. Raises RATE_LIMITED, and counts none, when one is used up."""
        self._raise(await self._store.take(uses, self._now_ms()))

    async def check(self, *uses: Use) -> None:
        """Raise as ``take`` does, without counting."""
        self._raise(await self._store.check(uses, self._now_ms()))

    async def count(self, *uses: Use) -> None:
        """Count a use of each unless one is used up."""
        await self._store.take(uses, self._now_ms())

    async def is_used_up(self, use: Use) -> bool:
        """Whether a use would be refused, which is not counted as a refusal."""
        return await self._store.check([use], self._now_ms()) is not None

    async def forget(self, use: Use) -> None:
        """Begin to count anew for whoever uses it."""
        await self._store.forget(use)

    async def purge(self) -> None:
        """Remove what counts no longer."""
        await self._store.purge(self._now_ms())

    def refusal(self, name: str, message: str, wait_s: float) -> HeliometerError:
        """The error to raise, counted as a refusal of that name."""
        self.refused[name] += 1
        seconds = max(1, math.ceil(wait_s))
        return HeliometerError(
            Code.RATE_LIMITED,
            message,
            details=f"Try again in {seconds} seconds.",
            retry_after=seconds,
        )

    def _raise(self, refused: Refused | None) -> None:
        if refused is not None:
            quota = refused.use.quota
            raise self.refusal(quota.name, quota.message, refused.wait_ms / 1000)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
