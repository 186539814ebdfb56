"""The evaluator role: owns some of the shards, and sends the time to every queue."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from aiormq.abc import AbstractConnection
from pamqp import commands

from heliometer.cluster.connection import WORK
from heliometer.cluster.consumer import ShardConsumer
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import AlarmChanged, Member
from heliometer.cluster.membership import Membership
from heliometer.cluster.message import TICK
from heliometer.core.background import together

log = logging.getLogger(__name__)

TICK_S = 1.0
TICK_LIFE_S = 600
BALANCE_S = 5.0


class OwnedShards:
    """Has a consumer for every shard; the broker assigns some of the shards to this process."""

    def __init__(
        self,
        consumers: Sequence[ShardConsumer],
        bus: EventBus,
        members: Membership,
        clock: Callable[[], float],
    ) -> None:
        self._consumers = consumers
        self._members = members
        self._clock = clock
        bus.on(AlarmChanged, self._alarm_changed)

    @property
    def numbers(self) -> list[int]:
        """The shards that this process owns."""
        return [c.number for c in self._consumers if c.owned]

    @property
    def lag_s(self) -> float:
        """The lag of the slowest of them, in seconds."""
        return max((c.lag_s for c in self._consumers), default=0.0)

    def total(self, name: str) -> float:
        """The sum of an attribute of the evaluators."""
        found = (c.evaluation.evaluator for c in self._consumers)
        return float(sum(getattr(each, name) for each in found if each is not None))

    def alarms(self) -> int:
        """How many alarms are watched here."""
        found = (c.evaluation.evaluator for c in self._consumers)
        return sum(len(each) for each in found if each is not None)

    async def serve(self, connection: AbstractConnection) -> None:
        """Own the shards that the broker assigns."""
        await together(
            ticks=partial(self._send_ticks, connection),
            balance=self._balance,
            **{f"shard {c.number}": partial(c.serve, connection) for c in self._consumers},
        )

    async def _send_ticks(self, connection: AbstractConnection) -> None:
        """Send the time to the queue of every shard, whichever process owns it: the broker assigns
        a queue to a consumer only when it holds a message."""
        channel = await connection.channel(publisher_confirms=False)
        while True:
            body = str(int(self._clock() * 1000)).encode()
            properties = commands.Basic.Properties(
                message_type=TICK, delivery_mode=1, expiration=str(TICK_LIFE_S * 1000)
            )
            for consumer in self._consumers:
                await channel.basic_publish(
                    body,
                    exchange=WORK,
                    routing_key=str(consumer.number),
                    properties=properties,
                )
            await asyncio.sleep(TICK_S)

    async def _balance(self) -> None:
        """Release shards while another process has fewer: the broker assigns each to the next in
        line."""
        while True:
            await asyncio.sleep(BALANCE_S)
            members = self._members.with_role("evaluator")
            given = too_many(self.numbers, members, self._members.name)
            if given:
                log.info("another process has fewer shards; releasing %s", given)
            for consumer in self._consumers:
                if consumer.number in given:
                    consumer.release()

    async def _alarm_changed(self, event: AlarmChanged) -> None:
        for consumer in self._consumers:
            await consumer.evaluation.look_at(event.alarm.project, event.alarm.alarm)


def too_many(mine: Sequence[int], members: Sequence[Member], name: str) -> list[int]:
    """The shards that the process ``name`` should release to the process with the fewest.

    A process that still lists one of these shards sent its report before it lost that shard; it may
    have exited since, and is ignored.
    """
    others = [m for m in members if m.name != name and not set(m.parts) & set(mine)]
    fewest = min((len(m.parts) for m in others), default=len(mine))
    return list(mine[len(mine) - max(0, len(mine) - fewest) // 2 :])
