"""The evaluator's engine, in a thread of its own, fed with measurements as they are stored.

The thread runs one call at a time, so that evaluating a hundred thousand alarms does not hold up
posts.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from heliometer.alarms.clock import Clock
from heliometer.alarms.engine.engine import Engine
from heliometer.alarms.engine.model import Doubt, Explanation, Rules, Watched
from heliometer.alarms.expression import Expression, parse
from heliometer.alarms.model import Alarm, Outcome, State, Transition
from heliometer.alarms.stored_windows import StoredWindows
from heliometer.core.errors import HeliometerError
from heliometer.metrics.model import Batch, Series

log = logging.getLogger(__name__)

T = TypeVar("T")


class LiveEngine:
    """Watches alarms on the measurements that arrive.

    ``turn`` is held for everything that must not mix with arrivals: what is decided then goes to
    ``decided`` in the order of the decisions. Methods that need it say so.
    """

    def __init__(
        self,
        rules: Rules,
        windows: StoredWindows,
        clock: Clock,
        decided: Callable[[Outcome], None],
    ) -> None:
        self._rules = rules
        self._windows = windows
        self._clock = clock
        self._decided = decided
        self._engine = Engine(rules)
        self._thread = ThreadPoolExecutor(1, "alarms")
        self._arrived: list[tuple[Batch, Sequence[Series]]] = []
        self._has_arrived = asyncio.Event()
        self.turn = asyncio.Lock()
        self.expressions: dict[str, tuple[str, Expression]] = {}
        """Project and expression of each watched alarm."""

    def __len__(self) -> int:
        return len(self._engine)

    @property
    def arrived(self) -> int:
        """The number of commits whose measurements the engine has not received yet."""
        return len(self._arrived)

    def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows that are kept for a project's alarms."""
        return self._engine.minutes_kept(project_id)

    async def close(self) -> None:
        """Wait for what the thread is doing, and end it."""
        await asyncio.to_thread(self._thread.shutdown)

    # -- measurements -------------------------------------------------------------------------

    def take(self, batch: Batch, series: Sequence[Series]) -> None:
        """Note what was stored (``metrics.ports.Stored``); the engine gets it later."""
        self._arrived.append((batch, series))
        self._has_arrived.set()

    async def run(self) -> None:
        """Give the engine what arrives as soon as the turn is free, until cancelled."""
        while True:
            await self._has_arrived.wait()
            try:
                async with self.turn:
                    await self.feed()
            except Exception:
                log.exception("measurements did not reach the alarm engine")

    async def feed(self) -> None:
        """Give the engine what has arrived. Needs the turn."""
        self._has_arrived.clear()
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, []
        now = self._clock.now_ms()
        batch = Batch.concatenate([b for b, _ in arrived])
        series = [s for _, new in arrived for s in new]

        def take() -> Outcome:
            if series:
                self._engine.know(series)
            transitions = self._engine.take(batch, now)
            return Outcome(transitions, self._engine.checkpoint() if transitions else None)

        outcome = await self._in_thread(take)
        if outcome.transitions:
            self._decided(outcome)

    def discard(self) -> None:
        """Forget what has arrived: the windows are about to be read from the store. Needs the
        turn."""
        self._arrived.clear()

    # -- alarms -------------------------------------------------------------------------------

    def reset(self) -> None:
        """Begin with an empty engine; ``add`` and ``restore`` complete it."""
        self._engine = Engine(self._rules)
        self.expressions.clear()

    async def restore(self, checkpoint: bytes, evaluated_ms: int, doubt: Doubt) -> None:
        """Resume from a checkpoint, once the alarms are added. Needs the turn."""

        def restore() -> None:
            self._engine.restore(checkpoint, evaluated_ms)
            self._engine.doubt(doubt)

        await self._in_thread(restore)

    async def doubt(self, doubt: Doubt) -> None:
        """Note minutes that prove less than others."""
        async with self.turn:
            await self._in_thread(lambda: self._engine.doubt(doubt))

    async def add(
        self,
        alarms: Sequence[Alarm],
        states: Mapping[str, State],
        changes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Watch alarms in these states, with their history. Needs the turn, while nothing is
        stored. Raises UNAVAILABLE when some history cannot be read; those alarms are not watched.
        """
        every = watched(alarms, states, changes)
        self.expressions.update((w.id, (w.project_id, w.expression)) for w in every)
        now = self._clock.now_ms()
        try:
            needs = await self._in_thread(
                lambda: self._engine.add(every, self._windows.select, now)
            )
            for need in needs:
                async for batch in self._windows.read(need, now):
                    await self._in_thread(partial(self._engine.fill, batch))
            await self._in_thread(self._engine.filled)
        except BaseException:
            # Not awaited, since we may have been cancelled: whatever the thread does next comes
            # after it. A thread that has ended judges nobody either.
            with suppress(RuntimeError):
                self._thread.submit(self._engine.give_up_filling)
            raise

    async def remove(self, alarm_ids: Iterable[str]) -> None:
        """Stop watching these alarms. Needs the turn."""
        ids = list(alarm_ids)
        await self._in_thread(lambda: self._engine.remove(ids))
        for alarm_id in ids:
            self.expressions.pop(alarm_id, None)

    # -- evaluation ---------------------------------------------------------------------------

    async def evaluate(
        self, minute_ms: int, now_ms: int, *, blind: bool
    ) -> tuple[list[Transition], bytes]:
        """The transitions of a minute, and the checkpoint after it. Needs the turn."""
        return await self._in_thread(
            lambda: (
                self._engine.evaluate(minute_ms, now_ms, blind=blind),
                self._engine.checkpoint(),
            )
        )

    async def explain(self, alarm_id: str) -> Explanation:
        """Why an alarm is in its state, as of the last whole minute; raises NOT_FOUND for one
        that is not watched."""
        async with self.turn:
            await self.feed()
            minute = self._clock.minute_ms()
            return await self._in_thread(lambda: self._engine.explain(alarm_id, minute))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def watched(
    alarms: Iterable[Alarm],
    states: Mapping[str, State],
    changes: Mapping[str, tuple[int, ...]] | None = None,
) -> list[Watched]:
    """The alarms as an engine takes them, in the stored state unless ``states`` has another one;
    those whose expression cannot be read are logged and left out."""
    found: list[Watched] = []
    for alarm in alarms:
        try:
            expression = parse(alarm.expression)
        except HeliometerError:
            log.exception("alarm %s has an expression that cannot be read", alarm.id)
            continue
        state = states.get(alarm.id, alarm.state)
        known = (changes or {}).get(alarm.id, ())
        found.append(Watched(alarm.id, alarm.project_id, expression, state, known))
    return found
