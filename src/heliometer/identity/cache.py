"""What is known of tokens that were looked up a moment ago."""

from collections.abc import Callable
from typing import NamedTuple

from heliometer.identity.model import Caller

FRESH_S = 30.0
"""Seconds that an answer is used without asking again. We promise that a revocation, by whatever
process, is honoured within 60 s; this leaves as much again for a slow answer."""
SIZE = 20_000


class Known(NamedTuple):
    """The answer to one token; ``caller`` is ``None`` when it is good for nothing."""

    caller: Caller | None
    expires_at: float
    """Seconds since 1970."""


class TokenCache:
    """A bounded memory, by the token's digest. Bad tokens have a room of their own, so that
    guessing at tokens does not push the good ones out."""

    def __init__(
        self, monotonic: Callable[[], float], size: int = SIZE, fresh_s: float = FRESH_S
    ) -> None:
        # Not the wall clock: when that is set back, answers must not live on.
        self._monotonic = monotonic
        self._size = size
        self._fresh_s = fresh_s
        self._good: dict[bytes, tuple[float, Known]] = {}
        self._bad: dict[bytes, tuple[float, Known]] = {}
        self.generation = 0
        """Grows with every revocation; an answer that was asked for before one is not kept."""

    def now(self) -> float:
        """The time from which an answer's freshness counts: take it before asking."""
        return self._monotonic()

    def get(self, digest: bytes) -> Known | None:
        """A fresh answer, if there is one."""
        found = self._good.get(digest) or self._bad.get(digest)
        if found is None or self._monotonic() - found[0] >= self._fresh_s:
            return None
        return found[1]

    def put(self, digest: bytes, asked_at: float, known: Known) -> None:
        """Keep an answer, in place of the oldest where there is no room."""
        self._good.pop(digest, None)
        self._bad.pop(digest, None)
        room = self._good if known.caller else self._bad
        if len(room) >= self._size:
            del room[next(iter(room))]
        room[digest] = (asked_at, known)

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
