"""When alarms are evaluated: each minute, a while after it ended.

Minutes that were due while the service was away are evaluated late, and nothing is concluded from
what did not arrive in them. When the clock is set, everything is read again, as after a restart,
and a metric's silence proves nothing until it was heard of by the new time.
"""

import logging
import math
from dataclasses import replace

from heliometer.alarms.clock import Clock
from heliometer.alarms.commit_queue import RETRY_S, CommitQueue
from heliometer.alarms.engine.model import Doubt
from heliometer.alarms.engine.watched_metrics import CAUGHT_UP
from heliometer.alarms.live_engine import LiveEngine
from heliometer.alarms.model import Outcome
from heliometer.alarms.ports import MeasurementSource
from heliometer.core.errors import HeliometerError
from heliometer.metrics.statistics import MINUTE_MS
from heliometer.metrics.validation import FUTURE_MS

log = logging.getLogger(__name__)

PUNCTUAL_MS = 30_000
"""A minute that could not be evaluated within this time after it was due was missed: the service
was away, and what did not arrive then proves nothing."""
SHIFT_MS = 2000
"""The wall clock was set when it moves by so much against the steady one: its minutes then are
shorter or longer than others."""
STEP_MS = 60_000
"""When it moves by more, minutes before and after do not compare."""
AWAIT_MS = 3_600_000
"""For as long as the clock was set, but no longer than this, a metric that was not heard of since
is not taken to be silent: its clients' clocks may have been right."""
AHEAD_MS = 300_000
"""Another process, whose clock was ahead of this one, may have evaluated minutes to come."""
LOOK_S = 5.0
"""Seconds between two looks at the clock, which may be set while the loop waits."""


class Scheduler:
    """Evaluates each minute once, in order."""

    def __init__(
        self,
        engine: LiveEngine,
        queue: CommitQueue,
        source: MeasurementSource,
        clock: Clock,
        *,
        grace_ms: int,
        flapping_span_ms: int,
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._source = source
        self._clock = clock
        self._grace_ms = grace_ms
        self._flapping_span_ms = flapping_span_ms
        self._evaluated_ms = 0
        self._blind_until_ms = 0
        self._has_run = False
        self._drift_ms = 0.0
        """By how much the wall clock and the steady one differ; infinite: all is to be loaded."""
        self._set_by_ms = 0
        """How far the clock was set since all was loaded."""
        self._has_failed = False
        """Whether the newest evaluation did."""
        self.lag_s = 0.0
        """From the time that the newest evaluation was due until it was committed, in seconds."""
        self.seconds = 0.0
        """How long the newest evaluation took."""
        self.missed = 0
        """Minutes that were not evaluated in time since the start."""

    @property
    def is_punctual(self) -> bool:
        """Whether the newest evaluation succeeded and is no older than two minutes."""
        age_ms = self._clock.now_ms() - self._evaluated_ms
        return not self._has_failed and age_ms < 2 * MINUTE_MS + self._grace_ms + PUNCTUAL_MS

    @property
    def due_ms(self) -> int:
        """When the next minute is to be evaluated."""
        return self._evaluated_ms + MINUTE_MS + self._grace_ms

    def committed(self, outcome: Outcome) -> None:
        """An outcome is durable: note how long that took."""
        if outcome.evaluated_ms is not None:
            self.lag_s = (self._clock.now_ms() - outcome.evaluated_ms - self._grace_ms) / 1000

    async def load(self) -> None:
        """Build the engine from what is committed, and decide which minutes are still due.

        Nothing may be stored meanwhile.
        """
        now = self._clock.now_ms()
        due = (now - self._grace_ms) // MINUTE_MS * MINUTE_MS
        resumed = await self._queue.take_over(now - self._flapping_span_ms, due)
        self._engine.reset()
        self._drift_ms = float("inf")  # should anything fail now, it is to be done again
        drift_ms = self._clock.offset_ms()
        doubt = Doubt()
        set_by_ms = self._set_by_ms
        async with self._engine.turn:
            states = self._queue.states_to_come(resumed.alarms)
            await self._engine.add(resumed.alarms, states, resumed.changes)
            self._evaluated_ms = due
            if 0 < resumed.evaluated_ms < due:
                self._evaluated_ms = max(resumed.evaluated_ms, due - CAUGHT_UP * MINUTE_MS)
                self.missed += (self._evaluated_ms - resumed.evaluated_ms) // MINUTE_MS
                # Those that are left out; the others are noted as they are evaluated.
                doubt = replace(doubt, unseen=_minutes(resumed.evaluated_ms, self._evaluated_ms))
            elif due < resumed.evaluated_ms <= due + AHEAD_MS:
                self._evaluated_ms = resumed.evaluated_ms
            elif due < resumed.evaluated_ms:  # the clock was set back, perhaps while all was down
                set_by_ms = set_by_ms or due - resumed.evaluated_ms
                latest = resumed.evaluated_ms + FUTURE_MS + MINUTE_MS
                doubt = replace(doubt, repeated=_minutes(due, latest))
            if set_by_ms:
                until = due + MINUTE_MS + min(abs(set_by_ms), AWAIT_MS)
                doubt = replace(doubt, awaited=_minutes(due, until))
            await self._engine.restore(resumed.checkpoint, self._evaluated_ms, doubt)
        self._drift_ms = drift_ms
        self._set_by_ms = 0
        if len(self._engine):
            log.info("watching %d alarms", len(self._engine))

    async def run(self) -> None:
        """Evaluate each minute when it is due, until cancelled. When it is called again, everything
        is read again: what the last run was doing may be half done."""
        if self._has_run:
            self._drift_ms = float("inf")
        self._has_run = True
        while True:
            minute = self._evaluated_ms + MINUTE_MS
            wait_s = (minute + self._grace_ms - self._clock.now_ms()) / 1000
            moved_ms = self._clock.offset_ms() - self._drift_ms
            if abs(moved_ms) > STEP_MS or -wait_s * 1000 > CAUGHT_UP * MINUTE_MS:
                # Late by so much: stopped, or asleep with the machine, which is much the same.
                try:
                    await self._start_over()
                except HeliometerError as error:
                    log.error("the alarms' windows cannot be read: %s", error.message)
                    await self._clock.sleep(RETRY_S)
            elif abs(moved_ms) > SHIFT_MS:
                log.warning("the clock was set by %.1f s", moved_ms / 1000)
                self._drift_ms += moved_ms
                self._blind_until_ms = self._clock.minute_ms() + MINUTE_MS
                if moved_ms < 0:
                    latest = self._clock.now_ms() - moved_ms + MINUTE_MS
                    doubt = Doubt(repeated=_minutes(self._clock.now_ms(), int(latest)))
                    await self._engine.doubt(doubt)
            elif wait_s > 0:
                await self._clock.sleep(min(wait_s, LOOK_S))
            else:
                try:
                    await self._evaluate(minute)
                except Exception:
                    # The next minute is another chance; health shows it when that fails too.
                    log.exception("the evaluation of a minute failed")
                    self._evaluated_ms = minute
                    self._has_failed = True

    async def _evaluate(self, minute: int) -> None:
        late_ms = self._clock.now_ms() - minute - self._grace_ms
        if late_ms > PUNCTUAL_MS:
            self.missed += 1
            # The minute that is running now was not seen whole either.
            self._blind_until_ms = self._clock.minute_ms() + MINUTE_MS
        blind = minute <= self._blind_until_ms
        async with self._engine.turn:
            await self._engine.feed()
            started, now = self._clock.steady_s(), self._clock.now_ms()
            transitions, checkpoint = await self._engine.evaluate(minute, now, blind=blind)
            self.seconds = self._clock.steady_s() - started
            self._evaluated_ms = minute
            self._has_failed = False
            self._queue.put(Outcome(transitions, checkpoint, minute))

    async def _start_over(self) -> None:
        """As after a restart: minutes before and after a jump of the clock do not compare."""
        why = "evaluation begins anew"
        if math.isfinite(self._drift_ms):
            moved_ms = self._clock.offset_ms() - self._drift_ms
            why = f"the clock was set by {moved_ms / 1000:.0f} s"
            if abs(moved_ms) <= STEP_MS:
                moved_ms = self._clock.now_ms() - self._evaluated_ms
                why = f"nothing was evaluated for {moved_ms / 1000:.0f} s"
            self._set_by_ms = int(moved_ms)
        log.warning("%s; the alarms' windows are read again from the store", why)
        await self._queue.emptied()
        async with self._source.quiet():
            async with self._engine.turn:  # what was being taken may have decided something
                self._engine.discard()
            await self._queue.emptied()
            await self.load()
        self._blind_until_ms = self._clock.minute_ms() + MINUTE_MS


def _minutes(from_ms: int, to_ms: int) -> range:
    return range(from_ms // MINUTE_MS, to_ms // MINUTE_MS)
