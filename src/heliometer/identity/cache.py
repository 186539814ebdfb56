"""Answers about tokens, remembered for a moment."""

from collections.abc import Callable
from typing import NamedTuple

from heliometer.core.bounded import put_newest
from heliometer.identity.model import Caller

FRESH_S = 30.0
"""For how many seconds an answer is used. A revocation by any process is honoured within 60 s; this
leaves as much again for a slow answer."""
KEPT_S = 55.0
"""For how many seconds an answer is used while no new one can be had."""
SIZE = 20_000


class Known(NamedTuple):
    """The answer about one token; ``caller`` is ``None`` for an invalid one."""

    caller: Caller | None
    expires_at: float
    """Seconds since the epoch."""


class TokenCache:
    """A bounded cache by the token's digest. Invalid tokens are kept apart, so that guesses do not
    push valid ones out."""

    def __init__(
        self, monotonic: Callable[[], float], size: int = SIZE, fresh_s: float = FRESH_S
    ) -> None:
        # Not the wall clock: setting it back must not prolong answers.
        self._monotonic = monotonic
        self._size = size
        self._fresh_s = fresh_s
        self._good: dict[bytes, tuple[float, Known]] = {}
        self._bad: dict[bytes, tuple[float, Known]] = {}
        self.generation = 0
        """Grows with each revocation; an answer that was asked for before one is not kept."""

    def now(self) -> float:
        """The time from which an answer's age counts, to be taken before asking."""
        return self._monotonic()

    def get(self, digest: bytes) -> Known | None:
        """A fresh answer, if there is one."""
        found = self._good.get(digest) or self._bad.get(digest)
        if found is None or self._monotonic() - found[0] >= self._fresh_s:
            return None
        return found[1]

    def stale(self, digest: bytes) -> Known | None:
        """The answer about a valid token that is no longer fresh, for use while no new one can be
        had; it is still young enough for a revocation to be honoured in time."""
        found = self._good.get(digest)
        if found is None or self._monotonic() - found[0] >= KEPT_S:
            return None
        return found[1]

    def put(self, digest: bytes, asked_at: float, known: Known) -> None:
        """Keep an answer, instead of the oldest one if the cache is full."""
        self._good.pop(digest, None)
        self._bad.pop(digest, None)
        entries = self._good if known.caller else self._bad
        put_newest(entries, digest, (asked_at, known), self._size)

    def revoke(self, digest: bytes | None = None) -> None:
        """Forget one token, or all of them."""
        self.generation += 1
        if digest is None:
            self._good.clear()
            self._bad.clear()
        else:
            self._good.pop(digest, None)

    def __len__(self) -> int:
        return len(self._good) + len(self._bad)
