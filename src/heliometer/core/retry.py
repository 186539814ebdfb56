"""Pauses between tries: the one formula for all that is tried again."""

import asyncio
import random


def doubled_s(failures: int, first_s: float, longest_s: float) -> float:
    """``first_s`` after the first failure, twice as long after each further one, at most
    ``longest_s``."""
    return min(first_s * 2.0 ** min(failures - 1, 64), longest_s)


def pause_s(failures: int, first_s: float, longest_s: float, spread: float = 0.25) -> float:
    """Seconds to wait after so many failures, at least one: ``doubled_s``, varied at random by the
    factor 1 ± ``spread``, so that those who failed together do not all try again together."""
    return doubled_s(failures, first_s, longest_s) * random.uniform(1 - spread, 1 + spread)  # noqa: S311


class Backoff:
    """Counts failures in a row, and pauses after each."""

    def __init__(self, first_s: float, longest_s: float, spread: float = 0.25) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._spread = spread
        self._failures = 0

    @property
    def failed(self) -> bool:
        """Whether the last try failed, so that only the first failure in a row is logged."""
        return self._failures > 0

    def next_s(self) -> float:
        """Count a failure; how many seconds to wait."""
        self._failures += 1
        return pause_s(self._failures, self._first_s, self._longest_s, self._spread)

    async def pause(self) -> None:
        """Count a failure, and wait."""
        await asyncio.sleep(self.next_s())

    def reset(self) -> None:
        """Start over: a try has succeeded."""
        self._failures = 0
