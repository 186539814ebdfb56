"""Keeps the engine and the database of one mind about every alarm.

An alarm is *in doubt* from when it may have changed in the database until the engine has it as it
is stored; so long it is looked at again and again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from heliometer.alarms.clock import Clock
from heliometer.alarms.live_engine import LiveEngine
from heliometer.alarms.model import Alarm, Outcome, State
from heliometer.alarms.ports import EvaluationStore, MeasurementSource
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.retry import doubled_s

log = logging.getLogger(__name__)

RETRY_S, LAST_RETRY_S = 5.0, 30.0

StatesToCome = Callable[[Iterable[Alarm]], Mapping[str, State]]
"""The states of stored alarms once everything that is decided is committed."""


@dataclass(eq=False, slots=True)
class _Doubt:
    """A reason to look at an alarm. Whatever may have changed it since is another doubt."""

    project_id: str


class Reconciler:
    """Watches new and edited alarms, forgets deleted ones, and retries what fails."""

    def __init__(
        self,
        store: EvaluationStore,
        engine: LiveEngine,
        source: MeasurementSource,
        clock: Clock,
        states_to_come: StatesToCome,
    ) -> None:
        self._store = store
        self._engine = engine
        self._source = source
        self._clock = clock
        self._states_to_come = states_to_come
        self._to_watch: dict[str, Alarm] = {}
        self._watching = asyncio.Lock()
        self._doubts: dict[str, _Doubt] = {}
        self._doubted = asyncio.Event()

    @property
    def in_doubt(self) -> frozenset[str]:
        """Ids of alarms that the engine may not have as they are stored."""
        return frozenset(self._doubts)

    @property
    def waiting(self) -> frozenset[str]:
        """Ids of alarms that are watched once it is their turn."""
        return frozenset(self._to_watch)

    async def watch(self, alarm: Alarm) -> None:
        """Watch an alarm from now on, with the history that is stored; replaces its old self.

        Raises UNAVAILABLE when that cannot be read; it is retried, and until then the alarm is
        not watched.
        """
        # It may have changed since the caller read it.
        self._doubt(alarm.id, alarm.project_id)
        self._to_watch[alarm.id] = alarm
        await self._watch_waiting()

    async def forget(self, alarm_ids: Iterable[str]) -> None:
        """Stop watching these alarms."""
        ids = list(alarm_ids)
        for alarm_id in ids:
            self._doubts.pop(alarm_id, None)
            self._to_watch.pop(alarm_id, None)
        async with self._watching, self._engine.turn:
            await self._engine.remove(ids)

    def committed(self, outcome: Outcome, left_out: Sequence[str]) -> None:
        """Look at the alarms that a commit shows, or leaves, to be different from the engine's."""
        # Changed or deleted meanwhile.
        for alarm_id in left_out:
            if alarm_id in self._engine.expressions:
                self._doubt(alarm_id, self._engine.expressions[alarm_id][0])
        # Those being looked at may have been read before this, and lack its new state.
        for alarm_id in {t.alarm_id for t in outcome.transitions} & self._doubts.keys():
            self._doubt(alarm_id, self._doubts[alarm_id].project_id)

    async def run(self) -> None:
        """Look at every alarm in doubt, until cancelled.

        Apart from the commits, which wait for nothing that this waits for.
        """
        failures = 0
        if self._doubts:  # a former run may have been in the middle of them
            self._doubted.set()
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            failed = False
            for alarm_id, doubt in list(self._doubts.items()):
                try:
                    await self._look_at(alarm_id, doubt)
                except Exception as error:
                    if not (failures or failed):
                        unexpected = not isinstance(error, HeliometerError)
                        log.error(
                            "alarm %s is not watched as it is stored: %s", alarm_id, error,
                            exc_info=unexpected,
                        )  # fmt: skip
                    failed = True
            failures = failures + 1 if failed else 0
            if failed:
                # Each try holds up what is to be stored and evaluated.
                await self._clock.pause(doubled_s(failures, RETRY_S, LAST_RETRY_S))
                self._doubted.set()

    def _doubt(self, alarm_id: str, project_id: str) -> None:
        self._doubts[alarm_id] = _Doubt(project_id)
        self._doubted.set()

    async def _look_at(self, alarm_id: str, doubt: _Doubt) -> None:
        alarm: Alarm | None = None
        try:
            alarm = await self._store.get(doubt.project_id, alarm_id)
        except HeliometerError as error:
            if error.code is not Code.NOT_FOUND:
                raise
        if self._doubts.get(alarm_id) is not doubt:
            return  # it was forgotten meanwhile, or has changed once more
        if alarm is None or not alarm.enabled:
            await self.forget([alarm_id])
            return
        self._to_watch[alarm_id] = alarm
        await self._watch_waiting()
        if self._doubts.get(alarm_id) is doubt:
            del self._doubts[alarm_id]

    async def _watch_waiting(self) -> None:
        async with self._watching:  # whatever comes while we wait is taken along
            wanted, self._to_watch = list(self._to_watch.values()), {}
            if not wanted:
                return
            try:
                async with self._source.quiet(), self._engine.turn:
                    await self._engine.feed()
                    await self._engine.add(wanted, self._states_to_come(wanted))
            except BaseException:
                for alarm in wanted:  # only one of those who wait for it gets the error
                    self._doubt(alarm.id, alarm.project_id)
                raise
