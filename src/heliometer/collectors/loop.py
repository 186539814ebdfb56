"""The loop of a collector: rounds, delivery, and the handling of failures."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from heliometer.collectors import Collector, Measurement
from heliometer.collectors.schedule import Schedule
from heliometer.collectors.threads import in_thread
from heliometer.core.errors import Code, HeliometerError

log = logging.getLogger(__name__)

QUICK_S = 10
"""Seconds from the first round to the second, so that deltas appear long before the first interval
of the basic level (300 s) ends."""
RECHECK_S = 30
"""Seconds between two checks of the interval while waiting: a project's new level and a stepped
clock take effect within that time."""
KEPT = 100_000
"""The most measurements kept while the store is down; the oldest rounds are dropped first."""
COLLECT_S = 60.0
"""How long a round may take before it is abandoned, in seconds."""

Deliver = Callable[[list[Measurement]], Awaitable[None]]
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


async def run(
    collector: Collector,
    deliver: Deliver,
    schedule: Schedule,
    clock: Clock,
    sleep: Sleep = asyncio.sleep,
    counts: Counter[str] | None = None,
) -> None:
    """Collect and deliver until cancelled: now, after QUICK_S, then by the schedule.

    ``clock`` is Unix time in seconds. ``counts``, if given, is kept up to date: ``rounds``,
    ``measurements`` (delivered), ``dropped`` (measurements), ``errors``.
    """
    rounds = _Rounds(collector, deliver, schedule, clock, Counter() if counts is None else counts)
    await rounds.refresh()
    await rounds.one()
    await sleep(min(QUICK_S, schedule.seconds))
    schedule.again()
    while True:
        at = clock()
        await rounds.refresh()
        await rounds.one()
        await _wait_after(at, rounds, clock, sleep)


async def _wait_after(last: float, rounds: "_Rounds", clock: Clock, sleep: Sleep) -> None:
    """Return at the start of the first round after ``last``, never before it. A level may change
    and the clock may be stepped meanwhile, so both are checked again after every sleep."""
    while True:
        await rounds.refresh()
        now = clock()
        last = min(last, now)  # the clock was set back: count from now on
        remaining = rounds.schedule.remaining(last, now)
        if now + remaining - last < min(QUICK_S, rounds.schedule.seconds) / 2:
            remaining += rounds.schedule.seconds  # too short an interval to be meaningful
        if remaining <= 0:
            return
        await sleep(min(remaining, RECHECK_S))


@dataclass(slots=True)
class _Rounds:
    collector: Collector
    deliver: Deliver
    schedule: Schedule
    clock: Clock
    counts: Counter[str]
    waiting: deque[list[Measurement]] = field(default_factory=deque)
    seen: set[tuple[str, str]] = field(default_factory=set)
    reading: asyncio.Future[list[Measurement]] | None = None

    async def refresh(self) -> None:
        """Read the levels again; the last known ones stay in force while that fails."""
        try:
            await self.schedule.refresh()
        except Exception as error:  # the loop must survive any failure of the store of levels
            self.failed(
                "interval",
                error,
                f"collecting every {self.schedule.seconds} s until the monitoring level can be "
                "read",
            )
        else:
            self.works("interval")

    async def one(self) -> None:
        """Collect once and deliver, after the rounds that could not be delivered before."""
        self.counts["rounds"] += 1
        try:
            found = await self._collect()
        except Exception as error:  # a collector's failure must not end the role
            self.failed("collecting", error, "this round is left out; the next one is tried")
        else:
            self.works("collecting")
            if found:
                self.waiting.append(found)
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
                self.works("delivering")
                self.counts["measurements"] += len(self.waiting.popleft())

    async def _collect(self) -> list[Measurement]:
        if self.reading is not None:
            if not self.reading.done():
                raise TimeoutError("an earlier round still waits for an answer")
            late, self.reading = self.reading, None
            if late.exception() is None and late.result():
                # Late, but the next deltas start from this reading.
                self.waiting.append(late.result())
        now = self.clock()
        due: set[str] = set()

        def is_due(project_id: str) -> bool:
            if project_id not in due and self.schedule.due(project_id, now):
                due.add(project_id)
            return project_id in due

        timestamp_ms = int(now) * 1000  # whole seconds, as documented
        reading = in_thread(lambda: self.collector.collect(timestamp_ms, is_due), "collector")
        try:
            found = await asyncio.wait_for(asyncio.shield(reading), COLLECT_S)
        except TimeoutError:
            if not reading.done():  # a thread cannot be stopped, only left running
                self.reading = reading
                reading.add_done_callback(_look_at)
                raise TimeoutError(f"no answer within {COLLECT_S:g} s") from None
            raise
        self.schedule.reported(due, now)
        return found

    def failed(self, doing: str, error: Exception, consequence: str) -> None:
        """Count a failure, and log it if it is the first of its kind since the last success."""
        self.counts["errors"] += 1
        kind = (doing, type(error).__name__)
        if kind in self.seen:
            return
        self.seen.add(kind)
        if isinstance(error, HeliometerError):
            what = f"{error.message} {error.details}".strip()
        else:
            what = str(error) if isinstance(error, TimeoutError) and str(error) else repr(error)
        log.warning(
            "collector: %s failed: %s; %s (logged once until it works again)",
            doing,
            what.rstrip("."),
            consequence,
        )

    def works(self, doing: str) -> None:
        """Note a success, after which another failure is logged again."""
        if any(kind[0] == doing for kind in self.seen):
            self.seen = {kind for kind in self.seen if kind[0] != doing}
            log.info("collector: %s works again", doing)

    def _drop_oldest(self) -> None:
        while len(self.waiting) > 1 and sum(map(len, self.waiting)) > KEPT:
            self.counts["dropped"] += len(self.waiting.popleft())


def _look_at(reading: asyncio.Future[list[Measurement]]) -> None:
    with suppress(asyncio.CancelledError):
        reading.exception()


def _may_succeed_later(error: Exception) -> bool:
    # Only these guarantee that nothing was stored: a retry after any other could store twice.
    return isinstance(error, HeliometerError) and error.code in (
        Code.UNAVAILABLE,
        Code.RATE_LIMITED,
    )
