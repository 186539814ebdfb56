"""Alarms where they are defined: those who watch them are told, and explanations made on demand."""

import asyncio
from collections.abc import Iterable

from heliometer.alarms.dry_run import Replay
from heliometer.alarms.engine.engine import Explanation, depth_of
from heliometer.alarms.expression import Expression, parse, subexpressions
from heliometer.alarms.model import Alarm, AlarmFilter
from heliometer.alarms.ports import AlarmStore
from heliometer.alarms.scheduler import Evaluator
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import AlarmChanged, AlarmName
from heliometer.cluster.membership import Membership


class Watching:
    """In the place of ``alarms.loop.Evaluator`` for use cases.

    ``evaluator`` watches nothing by itself: an alarm that is to be explained is put into it for
    that, with the history that the store has.
    """

    def __init__(
        self, alarms: AlarmStore, evaluator: Evaluator, bus: EventBus, members: Membership
    ) -> None:
        self._alarms = alarms
        self._evaluator = evaluator
        self._bus = bus
        self._members = members
        self._explaining = asyncio.Lock()

    async def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows that the project's alarms need."""
        alarms = await self._alarms.find(project_id, AlarmFilter(enabled=True), None, 1 << 31)
        return sum(depth_of(p) for a in alarms for p in subexpressions(parse(a.expression)))

    async def watch(self, alarm: Alarm) -> None:
        """Have the owner of the alarm's part watch it."""
        await self._tell(alarm.project_id, alarm.id)

    async def forget(self, project_id: str, alarm_ids: Iterable[str]) -> None:
        """Have it watched no longer."""
        for alarm_id in alarm_ids:
            await self._tell(project_id, alarm_id)

    async def _tell(self, project_id: str, alarm_id: str) -> None:
        event = AlarmChanged(AlarmName(project_id, alarm_id))
        await self._bus.tell(event, lambda: self._members.names("evaluator"))

    async def explain(self, alarm: Alarm) -> Explanation:
        """Why the alarm is in its state, as of the last whole minute."""
        async with self._explaining:
            await self._evaluator.watch(alarm)
            try:
                return await self._evaluator.explain(alarm)
            finally:
                await self._evaluator.forget(alarm.project_id, [alarm.id])

    async def dry_run(
        self, project_id: str, expression: Expression, start_ms: int, end_ms: int
    ) -> Replay:
        """What an alarm with this expression would have done."""
        return await self._evaluator.dry_run(project_id, expression, start_ms, end_ms)
