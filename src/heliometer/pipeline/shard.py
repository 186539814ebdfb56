"""The owner of a part: stores what was posted to it, evaluates its alarms, passes on its feed.

Messages are acknowledged to RabbitMQ only when what they hold is stored and passed on. When an
owner goes half-way, the next one gets them again; it asks the store which of them are there already
before it takes up the alarms, so that nothing is stored, or counted, twice.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import aiormq
import numpy as np
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import ChannelInvalidStateError

from heliometer.alarms.clock import MINUTE_MS
from heliometer.alarms.evaluator import Evaluator
from heliometer.alarms.scheduler import PUNCTUAL_MS
from heliometer.cluster.connection import WORK, Inbox, acknowledge, queue_name
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import MessagesStored, MessageStored
from heliometer.cluster.message import TICK, Handover, decode, is_own, parts_of
from heliometer.cluster.receipts import SharedReceipts
from heliometer.cluster.series_catalog import SeriesCatalog
from heliometer.cluster.stall_detector import StallDetector
from heliometer.core.errors import HeliometerError
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.ports import Committed, MeasurementWriter, Stored
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_ids import SeriesIds
from heliometer.metrics.series_index import SeriesIndex
from heliometer.projects.model import ProjectShard

log = logging.getLogger(__name__)

PREFETCH = 100
"""Messages that the broker hands over before any is acknowledged."""
LARGEST_GROUP = 8 << 20
"""Bytes of the messages that are stored together."""
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0
AGAIN_AT_ONCE = 16
"""Of what is handed over again, so much is stored at the same time."""
NOTHING = Batch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
EVALUATION_S = 30.0
"""How long the clock of a part waits for an evaluation, before it goes on without."""
UNTICKED_MS = 60_000
"""What was sent so much earlier than a message has arrived before it, whoever sent either: the
clock of a part goes on without ticks, so much behind."""
BELIEVED_AHEAD_MS = 20_000
"""A sender whose clock is further ahead of ours is not believed. Less than ``PUNCTUAL_MS``: a clock
that is believed does not look like a time in which nothing was sent."""
TOLD_AGAIN_MS = 600_000


class PassingOn(Protocol):
    """Takes what others subscribed to."""

    async def pass_on(self, part: int, batch: Batch) -> None:
        """Return when what is subscribed to is safe. Raises UNAVAILABLE when it is not."""
        ...


class StreamClock:
    """The time that a part has got to, in seconds: what its newest tick said.

    Ticks travel among the measurements. What was taken before a tick was sent has arrived before
    it, however long both waited. Where there are no ticks, because no evaluator was there to send
    any, the measurements' own times of sending tell it.
    """

    def __init__(self) -> None:
        self._ms = 0
        self._moved = asyncio.Event()

    def __call__(self) -> float:
        return self._ms / 1000

    def set(self, now_ms: int) -> None:
        """Go forward; never back."""
        if now_ms > self._ms:
            self._ms = now_ms
            self._moved.set()
            self._moved = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Until the time has passed, or some of it."""
        if seconds > 0:
            await self._moved.wait()


@dataclass(frozen=True, slots=True)
class Tools:
    """What all parts of a process work with."""

    store: MeasurementWriter
    series_index: SeriesIndex
    ids: SeriesIds
    series_catalog: SeriesCatalog
    receipts: SharedReceipts
    bus: EventBus
    passing: PassingOn
    pulse: StallDetector
    make_evaluator: Callable[[ProjectShard, "Partition", StreamClock], Evaluator]
    clock: Callable[[], float]
    committed: Committed


class Partition:
    """One part, for as long as this process has a consumer of its queue."""

    def __init__(self, share: ProjectShard, tools: Tools) -> None:
        self.share = share
        self._tools = tools
        self._listeners: list[Stored] = []
        self._committing = asyncio.Lock()
        self._receipts = tools.receipts
        self._told = np.zeros(1024, np.bool_)
        """Which series the listeners know."""
        self._stream = StreamClock()
        self._newest_ms = 0
        """When the newest message since we took over was sent."""
        self._told_ms = 0
        """When it was last told that somebody's clock is ahead."""
        self.evaluator: Evaluator | None = None
        """While this process is the owner."""
        self.taking_over = asyncio.Lock()
        """Held from before the alarms are read until ``evaluator`` is there."""
        self._evaluating: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self.owned = False
        self._owned_at = 0.0

    @property
    def lag_s(self) -> float:
        """How far the part is behind, in seconds; 0: not owned."""
        if not self.owned:
            return 0.0
        since = self._stream()
        if self.evaluator is None:
            since = max(since, self._owned_at)
        return max(0.0, self._tools.clock() - since)

    def release(self) -> None:
        """Let another process have it; this one queues up again behind all others."""
        self._leave.set()

    # -- what an evaluator needs of a writer --------------------------------------------------

    def listen(self, stored: Stored) -> None:
        """Have ``stored`` called with everything that is stored from now on."""
        self._listeners.append(stored)

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Nothing is stored meanwhile."""
        async with self._committing:
            yield

    # -- life ---------------------------------------------------------------------------------

    async def serve(self, connection: AbstractConnection) -> None:
        """Consume, and own the part whenever the broker lets us."""
        while True:
            channel = await connection.channel(publisher_confirms=False)
            await channel.basic_qos(prefetch_count=PREFETCH)
            inbox = Inbox()
            tag = f"{self._tools.bus.name}.{self.share.number}"
            channel.on_consumer_cancel_callbacks.add(lambda _: self.release())
            await channel.basic_consume(
                queue_name(WORK, self.share.number), inbox.put, consumer_tag=tag
            )
            self._leave.clear()
            try:
                await self._until_left(channel, inbox)
            finally:
                # What was taken and not acknowledged goes to the next owner with the channel.
                await self._lose()
                with suppress(Exception):
                    await asyncio.wait_for(channel.close(), 2)
            await asyncio.sleep(FIRST_RETRY_S)

    async def _until_left(self, channel: AbstractChannel, inbox: Inbox) -> None:
        """Work until it is to be released, the evaluator ends, or the channel is lost."""
        leave = asyncio.create_task(self._leave.wait())
        lost = asyncio.ensure_future(asyncio.shield(channel.closing))
        taking: asyncio.Task[Sequence[DeliveredMessage]] | None = None
        work: asyncio.Task[None] | None = None
        try:
            while True:
                taking = asyncio.create_task(inbox.take(LARGEST_GROUP))
                ends = {leave, lost, *({self._evaluating} if self._evaluating else ())}
                await asyncio.wait({taking, *ends}, return_when=asyncio.FIRST_COMPLETED)
                if any(end.done() for end in ends):
                    break
                messages = taking.result()
                work = asyncio.create_task(self._work(channel, messages))
                await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
                if lost.done():
                    break
                work.result()
        finally:
            # Also when we are cancelled: what went on storing by itself would do so while the next
            # owner stores the same.
            tasks = {task for task in (leave, lost, taking, work) if task is not None}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # there is nobody left to be told

    async def _lose(self) -> None:
        owned, self.owned = self.owned, False
        await self._lay_down()
        if owned:
            log.info("part %d is not ours any more", self.share.number)

    async def _lay_down(self) -> None:
        """Let the alarms be."""
        evaluator, self.evaluator = self.evaluator, None
        evaluating, self._evaluating = self._evaluating, None
        self._listeners.clear()
        if evaluating is not None:
            evaluating.cancel()
            await asyncio.wait({evaluating})
            if not evaluating.cancelled() and (error := evaluating.exception()):
                # Another owner has taken over; whatever else it is, the part is taken up anew.
                log.warning("part %d: its evaluation ended: %s", self.share.number, _first(error))
        if evaluator is not None:
            await evaluator.close()

    async def _take_over(self, now_ms: int) -> None:
        """What is stored is where the alarms go on from, at the time that the queue has got to.
        Nothing is stored meanwhile."""
        t = self._tools
        await _until_done(
            t.series_catalog.refresh, "the series of part %d cannot be read", self.share.number
        )
        self._told[:] = False
        self._know(np.arange(1, len(t.series_index) + 1, dtype=np.int64))
        evaluator = t.make_evaluator(self.share, self, self._stream)
        self._stream.set(now_ms)
        self._newest_ms = now_ms
        async with self.taking_over:
            await _until_done(evaluator.start, "part %d cannot be taken over", self.share.number)
            self._evaluating = asyncio.create_task(
                evaluator.run(), name=f"evaluation of part {self.share.number}"
            )
            self.evaluator = evaluator
        log.info("part %d is ours", self.share.number)

    # -- work ---------------------------------------------------------------------------------

    async def _work(self, channel: AbstractChannel, messages: Sequence[DeliveredMessage]) -> None:
        """Store and pass on what came, and acknowledge it."""
        if not self.owned:
            self.owned = True
            self._owned_at = self._tools.clock()
            await _until_done(
                self._receipts.refresh,
                "the receipts of part %d cannot be read",
                self.share.number,
            )
        at = 0
        while at < len(messages):
            message = messages[at]
            if _is_tick(message):
                if not message.redelivered:
                    await self._tick(message)
                at += 1
                continue
            first, again = at, bool(message.redelivered)
            if not again:
                if self.evaluator is None:
                    await self._take_over(self._stamp_ms(message) or self._now_ms())
                await self._advance(self._reached(message))
            while (
                at < len(messages)
                and not _is_tick(messages[at])
                and messages[at].redelivered == again
                and (again or at == first or not self._is_due(messages[at]))
            ):
                self._newest_ms = max(self._newest_ms, self._stamp_ms(messages[at]))
                at += 1
            if again:
                await self._again(messages[first:at])
            else:
                await self._store(messages[first:at])
        # Where the channel is lost, the next owner gets them again, and finds them stored.
        with suppress(aiormq.AMQPError, ChannelInvalidStateError):
            await acknowledge(channel, messages[-1])

    async def _tick(self, message: DeliveredMessage) -> None:
        """Go on to the time that it tells."""
        try:
            to_ms = int(message.body)
        except ValueError:
            log.error("part %d: a tick cannot be read", self.share.number)
            return
        if self._is_believed(to_ms):
            if self.evaluator is None:
                await self._take_over(to_ms)
            await self._advance(to_ms)
            self._newest_ms = max(self._newest_ms, to_ms)

    async def _advance(self, to_ms: int) -> None:
        """Bring the part's clock forward, evaluation by evaluation."""
        assert self.evaluator is not None
        if to_ms - self._newest_ms > PUNCTUAL_MS:
            # Nothing at all was sent for a while: the service was away, and what is due is late.
            self._stream.set(to_ms)
        while (due := self.evaluator.due_ms) <= to_ms:
            self._stream.set(due)
            for _ in range(int(EVALUATION_S * 50)):
                if self.evaluator.due_ms > due or (self._evaluating and self._evaluating.done()):
                    break
                await asyncio.sleep(0.02)
            else:
                break
            if self._evaluating is None or self._evaluating.done():
                return
        if self._stream() // 60 < to_ms // MINUTE_MS:
            self._receipts.forget(to_ms)
        self._stream.set(to_ms)

    def _reached(self, message: DeliveredMessage) -> int:
        """The time that the part has got to with a message of measurements."""
        sent_ms = self._stamp_ms(message)
        is_gap = sent_ms - self._newest_ms > PUNCTUAL_MS
        return sent_ms if is_gap else sent_ms - UNTICKED_MS

    def _is_due(self, message: DeliveredMessage) -> bool:
        """Whether something is to be evaluated before the message is stored."""
        assert self.evaluator is not None
        return self._reached(message) >= self.evaluator.due_ms

    def _stamp_ms(self, message: DeliveredMessage) -> int:
        """When a message was sent; 0 where it does not say, or cannot be believed."""
        sent = message.header.properties.timestamp
        sent_ms = int(sent.timestamp() * 1000) if sent else 0
        return sent_ms if self._is_believed(sent_ms) else 0

    def _now_ms(self) -> int:
        return int(self._tools.clock() * 1000)

    def _is_believed(self, sent_ms: int) -> bool:
        now_ms = self._now_ms()
        if sent_ms <= now_ms + BELIEVED_AHEAD_MS:
            return True
        if now_ms > self._told_ms + TOLD_AGAIN_MS:
            self._told_ms = now_ms
            log.error(
                "part %d: the clock of a process that sends is %.0f s ahead of the clock here, and "
                "not believed; let NTP set the clocks",
                self.share.number,
                (sent_ms - now_ms) / 1000,
            )
        return False

    async def _again(self, messages: Sequence[DeliveredMessage]) -> None:
        """Messages that another owner, or this one, had before."""
        # What is stored of them is in the windows already when the alarms are taken up after it.
        await self._lay_down()
        answers: list[tuple[DeliveredMessage, tuple[Handover, dict[str, str]]]] = []
        units: list[tuple[Batch, Receipt, list[Series]]] = []
        known: list[Batch] = []
        """What is stored for sure, by an owner that may not have passed it on."""
        left: list[Series] = []
        """Series of which nothing is stored; who sent them takes them for known all the same."""
        here = Receipts(())
        for message in messages:
            handover = self._decoded(message)
            if handover is None:
                continue
            series = await self._adopt(handover)
            refused: dict[str, str] = {}
            answers.append((message, (handover, refused)))
            for unit in parts_of(handover):
                receipt = unit.units[0].receipt
                if not is_own(receipt):
                    if not (
                        self._is_new(receipt, refused) and self._is_new(receipt, refused, here)
                    ):
                        if receipt.encoded_key not in refused:
                            known.append(self._local(unit.batch))
                        continue
                    here.remember(receipt)
                units.append((self._local(unit.batch), receipt, series))
                series = []
            left += series
        room = asyncio.Semaphore(AGAIN_AT_ONCE)

        async def store(batch: Batch, receipt: Receipt, series: Sequence[Series]) -> None:
            async with room:
                await self._append(batch, series, [receipt], again=True)

        async with self._committing:
            # Side by side: each waits until no insert is under way any more.
            async with asyncio.TaskGroup() as group:
                for each in units:
                    group.create_task(store(*each))
            for batch, receipt, _ in units:
                await self._spread(batch)
                if not is_own(receipt):
                    self._receipts.remember(receipt)
            for batch in known:
                await self._pass_on(batch)
            if left:
                await self._append(NOTHING, left, [])
        self._answer([m for m, _ in answers], [answer for _, answer in answers])

    async def _store(self, messages: Sequence[DeliveredMessage]) -> None:
        """Messages that nobody had before, in one go."""
        decoded: list[tuple[DeliveredMessage, Handover]] = []
        series: list[Series] = []
        for message in messages:
            handover = self._decoded(message)
            if handover is not None:
                decoded.append((message, handover))
                series += await self._adopt(handover)
        refusals: list[dict[str, str]] = []
        batches: list[Batch] = []
        receipts: list[Receipt] = []
        here = Receipts(())
        """Keys of this very group. What is not stored yet must not be remembered: should the part
        be lost now, it comes again."""
        for _, handover in decoded:
            refused: dict[str, str] = {}
            refusals.append(refused)
            if all(is_own(r) for r in handover.receipts):
                batches.append(handover.batch)
                receipts += handover.receipts
                continue
            for unit in parts_of(handover):
                receipt = unit.units[0].receipt
                if is_own(receipt) or (
                    self._is_new(receipt, refused) and self._is_new(receipt, refused, here)
                ):
                    batches.append(unit.batch)
                    receipts.append(receipt)
                    if not is_own(receipt):
                        here.remember(receipt)
        if batches or series:  # who sent series takes them for known, whatever else is refused
            started = self._tools.clock()
            batch = self._local(Batch.concatenate(batches or [NOTHING]))
            series = list(dict.fromkeys(series))
            async with self._committing:
                await self._append(batch, series, receipts)
                await self._spread(batch)
            for receipt in receipts:
                if not is_own(receipt):
                    self._receipts.remember(receipt)
            self._tools.committed(len(batch), self._tools.clock() - started)
        self._answer(
            [m for m, _ in decoded],
            [(h, r) for (_, h), r in zip(decoded, refusals, strict=True)],
        )

    async def _append(
        self,
        batch: Batch,
        series: Sequence[Series],
        receipts: Sequence[Receipt],
        *,
        again: bool = False,
    ) -> None:
        """Until it is stored: it was acknowledged to whoever sent it."""
        tried = again

        async def append() -> None:
            nonlocal tried
            # Who stood still may not be the owner any more, and does not know it yet.
            before, tried = tried or self._tools.pulse.is_doubtful, True
            await self._tools.store.append(batch, series, receipts, maybe_duplicate=before)

        await _until_done(append, "measurements of part %d wait", self.share.number)
        if series:
            self._tools.series_catalog.stored(series)

    async def _spread(self, batch: Batch) -> None:
        """Give what is stored to those who listen, and to the feed."""
        new = [self._tools.series_index[i] for i in self._know(np.unique(batch.series)).tolist()]
        for stored in self._listeners:
            stored(batch, new)
        await self._pass_on(batch)

    async def _pass_on(self, batch: Batch) -> None:
        await _until_done(
            lambda: self._tools.passing.pass_on(self.share.number, batch),
            "what is subscribed to of part %d waits",
            self.share.number,
        )

    def _know(self, series: Int64s) -> Int64s:
        """Those that nobody was told of yet, who are told now."""
        if not len(series):
            return series
        most = int(series[-1])
        if most >= len(self._told):
            self._told = np.pad(self._told, (0, max(most + 1, 2 * len(self._told))))
        new = series[~self._told[series]]
        self._told[new] = True
        return new

    async def _adopt(self, handover: Handover) -> list[Series]:
        """Learn the series that the message brings, and those that it takes for known; what the
        store does not have."""
        series = self._tools.series_catalog.bring(handover.series)
        local = self._tools.ids.to_local(handover.batch.series)
        if len(local) and not local.all():
            await _until_done(
                self._tools.series_catalog.refresh,
                "the series of part %d cannot be read",
                self.share.number,
            )
        return series

    def _local(self, batch: Batch) -> Batch:
        local = self._tools.ids.to_local(batch.series)
        if not local.all():
            # Nobody can ask for them: their names are known to nobody.
            log.error("%d measurements belong to series that are not known", (local == 0).sum())
            rows = local != 0
            return Batch(local[rows], batch.timestamp[rows], batch.value[rows])
        return Batch(local, batch.timestamp, batch.value)

    def _is_new(
        self, receipt: Receipt, refused: dict[str, str], among: Receipts | None = None
    ) -> bool:
        try:
            return not (self._receipts if among is None else among).known(receipt)
        except HeliometerError as error:
            refused[receipt.encoded_key] = error.message
            return False

    def _decoded(self, message: DeliveredMessage) -> Handover | None:
        try:
            return decode(message.body)
        except ValueError as error:
            log.error("part %d: a message cannot be read: %s", self.share.number, error)
            return None

    def _answer(
        self,
        messages: Sequence[DeliveredMessage],
        results: Sequence[tuple[Handover, dict[str, str]]],
    ) -> None:
        """Tell those who wait that their messages are stored."""
        replies: dict[str, list[MessageStored]] = {}
        for message, (handover, refused) in zip(messages, results, strict=True):
            queue = message.header.properties.reply_to
            if queue:
                replies.setdefault(queue, []).append(MessageStored(handover.token, refused))
        for queue, stored in replies.items():
            self._tools.bus.reply(queue, MessagesStored(stored))


def _first(error: BaseException) -> BaseException:
    """What is within groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_tick(message: DeliveredMessage) -> bool:
    return bool(message.header.properties.message_type == TICK)


async def _until_done(work: Callable[[], Awaitable[None]], trouble: str, part: int) -> None:
    delay, told = FIRST_RETRY_S, False
    while True:
        try:
            await work()
            return
        except HeliometerError as error:
            if not told:
                log.error(f"{trouble}: %s", part, error.message)  # noqa: G004
            told = True
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY_S)
