"""The loop of the collector role: when to collect, and what happens when that fails."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from heliometer.collect import Collector, Measurement
from heliometer.model.errors import Code, HeliometerError

log = logging.getLogger(__name__)

QUICK_S = 10
"""Seconds from the first round to the second, so that deltas show long before the first interval
of the basic level (300 s) ends."""
RECHECK_S = 30
"""Seconds after which the interval is asked for again while waiting: a project's new level and a
stepped clock take effect within that time."""
KEPT = 100_000
"""Measurements that wait for the store to come back; beyond it the oldest rounds are dropped."""
UNKNOWN_INTERVAL_S = 300

Deliver = Callable[[list[Measurement]], Awaitable[None]]
Interval = Callable[[], Awaitable[int]]
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


async def run(
    collector: Collector,
    deliver: Deliver,
    interval: Interval,
    clock: Clock,
    sleep: Sleep = asyncio.sleep,
    counts: Counter[str] | None = None,
) -> None:
    """Collect and deliver until cancelled: now, after QUICK_S, then at multiples of the interval.

    ``clock`` is Unix time and ``interval`` the time between rounds, in seconds. ``counts``, if
    given, is kept up to date: ``rounds``, ``measurements`` (delivered), ``dropped``
    (measurements), ``errors``.
    """
    rounds = _Rounds(collector, deliver, clock, Counter() if counts is None else counts)
    pace = _Pace(interval, clock, sleep, rounds.failed)
    await rounds.one()
    await sleep(min(QUICK_S, await pace.seconds()))
    while True:
        at = clock()
        await rounds.one()
        await pace.wait_after(at)


@dataclass(slots=True)
class _Pace:
    interval: Interval
    clock: Clock
    sleep: Sleep
    failed: Callable[[str, Exception, str], None]
    last_known: int = UNKNOWN_INTERVAL_S

    async def seconds(self) -> int:
        """The interval now; the last known one while it cannot be found out."""
        try:
            self.last_known = max(1, await self.interval())
        except Exception as error:  # the loop outlives whatever the level's store does
            self.failed(
                "interval",
                error,
                f"collecting every {self.last_known} s until the monitoring level can be read",
            )
        return self.last_known

    async def wait_after(self, last: float) -> None:
        """Return at the first multiple of the interval after ``last``, never before it.

        The level may change and the clock may be stepped meanwhile, so both are looked at anew
        after every nap.
        """
        while True:
            seconds = await self.seconds()
            now = self.clock()
            last = min(last, now)  # the clock went back: count from where it is now
            remaining = (last // seconds + 1) * seconds - now
            if remaining <= 0:
                return
            await self.sleep(min(remaining, RECHECK_S))


@dataclass(slots=True)
class _Rounds:
    collector: Collector
    deliver: Deliver
    clock: Clock
    counts: Counter[str]
    waiting: deque[list[Measurement]] = field(default_factory=deque)
    seen: set[tuple[str, str]] = field(default_factory=set)

    async def one(self) -> None:
        """Collect once and deliver, after what earlier rounds could not deliver."""
        self.counts["rounds"] += 1
        timestamp_ms = int(self.clock()) * 1000  # whole seconds, as documented
        try:
            self.waiting.append(await asyncio.to_thread(self.collector.collect, timestamp_ms))
        except Exception as error:  # a collector must not end the role
            self.failed("collecting", error, "this round is left out; the next one is tried")
        while self.waiting:
            try:
                await self.deliver(self.waiting[0])
            except Exception as error:
                if _may_succeed_later(error):
                    self.failed("delivering", error, "kept, and delivered once that is over")
                    self._drop_oldest()
                    return
                self.failed("delivering", error, "this round is dropped; the next one is tried")
                self.counts["dropped"] += len(self.waiting.popleft())
            else:
                self.counts["measurements"] += len(self.waiting.popleft())

    def failed(self, doing: str, error: Exception, consequence: str) -> None:
        """Count the failure, and log it if it is the first of its kind."""
        self.counts["errors"] += 1
        kind = (doing, type(error).__name__)
        if kind in self.seen:
            return
        self.seen.add(kind)
        what = error.message if isinstance(error, HeliometerError) else repr(error)
        log.warning(
            "collector: %s failed: %s; %s (said once; set collector.enabled = false to stop "
            "collecting)",
            doing,
            what,
            consequence,
        )

    def _drop_oldest(self) -> None:
        while len(self.waiting) > 1 and sum(map(len, self.waiting)) > KEPT:
            self.counts["dropped"] += len(self.waiting.popleft())


def _may_succeed_later(error: Exception) -> bool:
    # Only these promise that nothing was stored: repeating after any other could store twice.
    return isinstance(error, HeliometerError) and error.code in (
        Code.UNAVAILABLE,
        Code.RATE_LIMITED,
    )
