"""Explanations in a process that does not evaluate the alarm: made from stored measurements."""

import asyncio

from heliometer.alarms.clock import Clock
from heliometer.alarms.engine.engine import Engine
from heliometer.alarms.engine.model import Explanation, Rules
from heliometer.alarms.live_engine import watched
from heliometer.alarms.model import Alarm
from heliometer.alarms.stored_windows import StoredWindows


class StoredExplainer:
    """Fulfils ``ports.Explainer`` without an evaluator.

    How often in a row the expression was unknown is known to the evaluator alone; it is 0 here.
    """

    def __init__(self, windows: StoredWindows, rules: Rules, clock: Clock) -> None:
        self._windows = windows
        self._rules = rules
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        """One alarm may match many series, whose windows take memory."""

    async def explain(self, alarm: Alarm) -> Explanation:
        """Why the alarm is in its state, as of the last whole minute.

        Raises UNAVAILABLE when its measurements cannot be read.
        """
        async with self._one_at_a_time:
            now = self._clock.now_ms()
            engine = Engine(self._rules)
            # In a thread: of many series, matching and explaining take long, too.
            needs = await asyncio.to_thread(
                engine.add, watched([alarm], {}), self._windows.select, now
            )
            for need in needs:
                async for batch in self._windows.read(need, now):
                    await asyncio.to_thread(engine.fill, batch)
            engine.filled()
            return await asyncio.to_thread(engine.explain, alarm.id, self._clock.minute_ms())
