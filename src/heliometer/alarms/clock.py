"""The time that alarms are evaluated by: this machine's, or how far a shard's time is known."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from heliometer.metrics.statistics import MINUTE_MS

AT_ONCE_S = 0.5
"""Two looks at the clock that are farther apart are not compared."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall-clock and monotonic time, which diverge when the clock is set."""

    now_s: Callable[[], float]
    """Seconds since the epoch."""
    steady_s: Callable[[], float] = time.monotonic
    """Seconds since some moment; never set."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Wait for so many seconds, or less."""

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch."""
        return int(self.now_s() * 1000)

    def minute_ms(self) -> int:
        """The beginning of the current minute, in milliseconds since the epoch."""
        return self.now_ms() // MINUTE_MS * MINUTE_MS

    def offset_ms(self) -> float:
        """By how much the wall clock is ahead of the steady one: changes when it is set."""
        while True:
            before = self.steady_s()
            now = self.now_ms()
            if self.steady_s() - before < AT_ONCE_S:
                return now - before * 1000

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds, not less."""
        until = self.steady_s() + seconds
        while (left := until - self.steady_s()) > 0:
            await self.sleep(left)
