"""The evaluator role: takes its share of the parts, and tells all the time."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from aiormq.abc import AbstractConnection
from pamqp import commands

from heliometer.alarms.ports import AlarmStore
from heliometer.cluster.connection import WORK
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import AlarmChanged, Member
from heliometer.cluster.membership import Membership
from heliometer.cluster.message import TICK
from heliometer.core.errors import Code, HeliometerError
from heliometer.pipeline.shard import Partition

log = logging.getLogger(__name__)

TICK_S = 1.0
TICK_LIFE_S = 600
BALANCE_S = 5.0


class Owner:
    """All parts, of which the broker gives this process some."""

    def __init__(
        self,
        partitions: Sequence[Partition],
        bus: EventBus,
        members: Membership,
        alarms: AlarmStore,
        clock: Callable[[], float],
    ) -> None:
        self._partitions = partitions
        self._members = members
        self._alarms = alarms
        self._clock = clock
        bus.on(AlarmChanged, self._alarm_changed)

    @property
    def owned(self) -> list[int]:
        """The parts that are ours."""
        return [p.share.number for p in self._partitions if p.owned]

    @property
    def lag_s(self) -> float:
        """How far the furthest behind of them is."""
        return max((p.lag_s for p in self._partitions), default=0.0)

    def total(self, name: str) -> float:
        """The sum of a figure of the evaluators."""
        found = (p.evaluator for p in self._partitions)
        return float(sum(getattr(each, name) for each in found if each is not None))

    def alarms(self) -> int:
        """Alarms that are watched here."""
        return sum(len(p.evaluator) for p in self._partitions if p.evaluator is not None)

    async def serve(self, connection: AbstractConnection) -> None:
        """Own what the broker gives."""
        async with asyncio.TaskGroup() as group:
            for partition in self._partitions:
                group.create_task(partition.serve(connection))
            group.create_task(self._tell_time(connection))
            group.create_task(self._balance())

    async def _tell_time(self, connection: AbstractConnection) -> None:
        """Into every part's queue, whoever owns it: the broker gives a queue to nobody's owner
        when there is something in it."""
        channel = await connection.channel(publisher_confirms=False)
        while True:
            body = str(int(self._clock() * 1000)).encode()
            properties = commands.Basic.Properties(
                message_type=TICK, delivery_mode=1, expiration=str(TICK_LIFE_S * 1000)
            )
            for partition in self._partitions:
                await channel.basic_publish(
                    body,
                    exchange=WORK,
                    routing_key=str(partition.share.number),
                    properties=properties,
                )
            await asyncio.sleep(TICK_S)

    async def _balance(self) -> None:
        """Give up a part while others have fewer: the broker gives it to the next in line."""
        while True:
            await asyncio.sleep(BALANCE_S)
            members = self._members.with_role("evaluator")
            given = too_many(self.owned, members, self._members.name)
            if given:
                log.info("another process has fewer parts; it can have %s", given)
            for partition in self._partitions:
                if partition.share.number in given:
                    partition.release()

    async def _alarm_changed(self, event: AlarmChanged) -> None:
        project_id, alarm_id = event.alarm.project, event.alarm.alarm
        for partition in self._partitions:
            if not partition.share.holds(project_id):
                continue
            async with partition.taking_over:  # which may have read the alarms before this one
                evaluator = partition.evaluator
            if evaluator is None:
                continue
            try:
                alarm = await self._alarms.get(project_id, alarm_id)
            except HeliometerError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
                await evaluator.forget(project_id, [alarm_id])
            else:
                if alarm.enabled:
                    try:
                        await evaluator.watch(alarm)
                    except HeliometerError as error:
                        # The evaluator tries again by itself; other changes need not wait for it.
                        log.warning("alarm %s is not watched yet: %s", alarm_id, error.message)
                else:
                    await evaluator.forget(project_id, [alarm_id])


def too_many(mine: Sequence[int], members: Sequence[Member], name: str) -> list[int]:
    """Of the parts of the process ``name``, those that the one with the fewest is to have.

    Who tells of a part that is ours told it before it lost it, and may be gone.
    """
    others = [m for m in members if m.name != name and not set(m.parts) & set(mine)]
    fewest = min((len(m.parts) for m in others), default=len(mine))
    return list(mine[len(mine) - max(0, len(mine) - fewest) // 2 :])
