"""The consumer of one shard's queue: the shard's owner while it is the active consumer.

Messages are acknowledged to RabbitMQ only once their measurements are stored and published to the
feed. When an owner exits half-way, the next one receives them again. It has the store skip what it
already holds before the alarms are taken over, so that nothing is stored, or counted, twice.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import ChannelInvalidStateError

from heliometer.cluster.connection import WORK, Inbox, acknowledge, queue_name
from heliometer.cluster.feed_publisher import ShardBatch
from heliometer.cluster.message import TICK
from heliometer.cluster.receipts import SharedReceipts
from heliometer.cluster.received import Receiver
from heliometer.cluster.retrying import until_done
from heliometer.cluster.series_catalog import SeriesCatalog
from heliometer.cluster.shard_evaluation import ShardEvaluation
from heliometer.cluster.watermark import Watermark
from heliometer.core.retry import Backoff
from heliometer.pipeline.shard import Shard

log = logging.getLogger(__name__)

PREFETCH = 100
"""Messages that the broker delivers before any is acknowledged."""
LARGEST_GROUP = 8 << 20
"""Largest total size of messages that are stored together, in bytes."""
REQUEUE_S, LAST_REQUEUE_S = 0.2, 30.0
"""Pause before a consumer that released its shard subscribes again, and the longest when its
evaluation fails again and again, so that another process may try."""


class ShardConsumer:
    """Consumes one shard's queue, and does the work of the shard's owner."""

    def __init__(
        self,
        shard: Shard[ShardBatch],
        *,
        name: str,
        evaluation: ShardEvaluation,
        watermark: Watermark,
        receiver: Receiver,
        receipts: SharedReceipts,
        series_catalog: SeriesCatalog,
        clock: Callable[[], float],
    ) -> None:
        """``name`` identifies this process in the broker's list of consumers."""
        self.shard = shard
        self.evaluation = evaluation
        self._name = name
        self._watermark = watermark
        self._receiver = receiver
        self._receipts = receipts
        self._series_catalog = series_catalog
        self._clock = clock
        self._leave = asyncio.Event()
        self.owned = False
        self._owned_at = 0.0

    @property
    def number(self) -> int:
        """The number of the shard."""
        return self.shard.number

    @property
    def lag_s(self) -> float:
        """How far the shard is behind, in seconds; 0 if it is not owned."""
        if not self.owned:
            return 0.0
        since = self._watermark()
        if self.evaluation.evaluator is None:
            since = max(since, self._owned_at)
        return max(0.0, self._clock() - since)

    def release(self) -> None:
        """Release the shard to another process; this one subscribes again, behind all others."""
        self._leave.set()

    # -- consuming ----------------------------------------------------------------------------

    async def serve(self, connection: AbstractConnection) -> None:
        """Consume, and own the shard while this is the active consumer."""
        backoff = Backoff(REQUEUE_S, LAST_REQUEUE_S)
        while True:
            began_at = self._clock()
            channel = await connection.channel(publisher_confirms=False)
            await channel.basic_qos(prefetch_count=PREFETCH)
            inbox = Inbox()
            channel.on_consumer_cancel_callbacks.add(lambda _: self.release())
            await channel.basic_consume(
                queue_name(WORK, self.number),
                inbox.put,
                consumer_tag=f"{self._name}.{self.number}",
            )
            self._leave.clear()
            try:
                await self._until_left(channel, inbox)
            finally:
                # Unacknowledged messages go to the next owner when the channel closes.
                await self.stop()
                with suppress(Exception):
                    await asyncio.wait_for(channel.close(), 2)
            if not self.evaluation.has_failed or self._clock() - began_at > LAST_REQUEUE_S:
                backoff.reset()
            await backoff.pause()

    async def _until_left(self, channel: AbstractChannel, inbox: Inbox) -> None:
        """Work until the shard is released, its evaluation ends, or the channel is lost."""
        leave = asyncio.create_task(self._leave.wait())
        lost = asyncio.ensure_future(asyncio.shield(channel.closing))
        taking: asyncio.Task[Sequence[DeliveredMessage]] | None = None
        work: asyncio.Task[None] | None = None
        try:
            while True:
                taking = asyncio.create_task(inbox.take(LARGEST_GROUP))
                running = self.evaluation.running
                ends = {leave, lost, *({running} if running else ())}
                await asyncio.wait({taking, *ends}, return_when=asyncio.FIRST_COMPLETED)
                if any(end.done() for end in ends):
                    break
                messages = taking.result()
                work = asyncio.create_task(self.work(channel, messages))
                await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
                if lost.done():
                    break
                work.result()
        finally:
            # Also on cancellation: a task left running would store while the next owner stores the
            # same.
            tasks = {task for task in (leave, lost, taking, work) if task is not None}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # nothing is left to report it to

    async def stop(self) -> None:
        """Stop acting as the owner."""
        owned, self.owned = self.owned, False
        await self.evaluation.stop()
        if owned:
            log.info("shard %d is no longer owned by this process", self.number)

    # -- work ---------------------------------------------------------------------------------

    async def work(self, channel: AbstractChannel, messages: Sequence[DeliveredMessage]) -> None:
        """Process messages in their order, and acknowledge them."""
        if not self.owned:
            self.owned = True
            self._owned_at = self._clock()
            await until_done(
                self._receipts.refresh, f"the receipts of shard {self.number} cannot be read"
            )
        at = 0
        while at < len(messages):
            message = messages[at]
            if _is_tick(message):
                if not message.redelivered:
                    await self._tick(message)
                at += 1
                continue
            is_redelivered = bool(message.redelivered)
            if not is_redelivered:
                await self._take_over(self._watermark.sent_ms(message) or int(self._clock() * 1000))
                await self._advance(self._watermark.reached_by(message))
            first = at
            while at < len(messages) and (
                at == first or self._goes_with(messages[at], is_redelivered)
            ):
                self._watermark.saw(self._watermark.sent_ms(messages[at]))
                at += 1
            await self._store(messages[first:at], is_redelivered)
        # If the channel is lost, the next owner receives them again and finds them stored.
        with suppress(aiormq.AMQPError, ChannelInvalidStateError):
            await acknowledge(channel, messages[-1])

    def _goes_with(self, message: DeliveredMessage, is_redelivered: bool) -> bool:
        """Whether a message is stored together with those before it."""
        if _is_tick(message) or message.redelivered != is_redelivered:
            return False
        # Nothing may be due for evaluation before the message is stored.
        return is_redelivered or self._watermark.reached_by(message) < self.evaluation.due_ms

    async def _store(self, messages: Sequence[DeliveredMessage], is_redelivered: bool) -> None:
        if is_redelivered:
            # The windows will include what is stored once the alarms are taken over again.
            await self.evaluation.stop()
        received = await self._receiver.read(messages, apart=is_redelivered)
        refusals = await self.shard.store(
            received.units, received.series, maybe_duplicate=is_redelivered
        )
        self._receiver.reply(received, refusals)

    async def _tick(self, message: DeliveredMessage) -> None:
        """Advance to the time in a tick."""
        try:
            to_ms = int(message.body)
        except ValueError:
            log.error("shard %d: a message with the time cannot be read", self.number)
            return
        if self._watermark.is_believed(to_ms):
            await self._take_over(to_ms)
            await self._advance(to_ms)
            self._watermark.saw(to_ms)

    async def _take_over(self, now_ms: int) -> None:
        """Take over the alarms, unless that is done already."""
        if self.evaluation.evaluator is None:
            await until_done(
                self._series_catalog.refresh, f"the series of shard {self.number} cannot be read"
            )
            await self.evaluation.start(now_ms)

    async def _advance(self, to_ms: int) -> None:
        minute = self._watermark() // 60
        await self._watermark.advance(to_ms, self.evaluation)
        if self._watermark() // 60 > minute:
            self._receipts.forget(to_ms)


def _is_tick(message: DeliveredMessage) -> bool:
    return bool(message.header.properties.message_type == TICK)
