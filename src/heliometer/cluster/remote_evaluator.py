"""Watches alarms from a process that may not evaluate them: it notifies the shard's owner."""

from collections.abc import Iterable

from heliometer.alarms.engine.watched_metrics import depth_of
from heliometer.alarms.expression import parse, subexpressions
from heliometer.alarms.model import Alarm, AlarmFilter
from heliometer.alarms.ports import AlarmStore
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import AlarmChanged, AlarmName
from heliometer.cluster.membership import Membership


class RemoteEvaluator:
    """Fulfils ``alarms.ports.Watcher``: returns when the evaluators have read the change."""

    def __init__(self, alarms: AlarmStore, bus: EventBus, members: Membership) -> None:
        self._alarms = alarms
        self._bus = bus
        self._members = members

    async def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows that the project's alarms need."""
        alarms = await self._alarms.find(project_id, AlarmFilter(enabled=True), None, 1 << 31)
        return sum(depth_of(p) for a in alarms for p in subexpressions(parse(a.expression)))

    async def watch(self, alarm: Alarm) -> None:
        """Have the owner of the alarm's shard evaluate it."""
        await self._notify_owner(alarm.project_id, alarm.id)

    async def forget(self, project_id: str, alarm_ids: Iterable[str]) -> None:
        """Have the owner of the project's shard stop evaluating these alarms."""
        for alarm_id in alarm_ids:
            await self._notify_owner(project_id, alarm_id)

    async def _notify_owner(self, project_id: str, alarm_id: str) -> None:
        event = AlarmChanged(AlarmName(project_id, alarm_id))
        await self._bus.tell(event, lambda: self._members.names("evaluator"))
