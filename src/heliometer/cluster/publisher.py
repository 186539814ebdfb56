"""The transport between processes: whatever is acknowledged to a client is safe in RabbitMQ.

Posts to a shard that arrive while a message is in flight travel in the next one. A post is answered
when the broker has confirmed its message and the shard's owner has stored it, so that clients can
read what they wrote; if the owner is slow, the confirmation is enough.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiormq
import numpy as np
from aiormq.abc import AbstractChannel, AbstractConnection

from heliometer.cluster.connection import WORK, persistent, until_closed
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import MessagesStored
from heliometer.cluster.message import Handover, Unit, encode, key_in, new_token, own_receipt
from heliometer.config import BusSettings
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.ports import Committed
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.series_ids import SeriesIds
from heliometer.metrics.series_index import SeriesIndex
from heliometer.pipeline.group_commit import for_each

log = logging.getLogger(__name__)

LARGEST_MESSAGE = 20_000
"""The most measurements in one message."""
FLIGHTS = 3
"""The most unconfirmed messages to a shard at the same time."""
CONFIRM_S = 10.0
SPREAD_S = 0.02
"""Seconds until all processes know a new series."""


@dataclass(slots=True)
class _Post:
    batch: Batch
    receipt: Receipt | None
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Line:
    """The posts that wait to be sent to one shard."""

    posts: list[_Post] = field(default_factory=list)
    flights: int = 0


class Publisher:
    """Sends measurements to the owners of their shards."""

    def __init__(
        self,
        series_index: SeriesIndex,
        ids: SeriesIds,
        bus: EventBus,
        settings: BusSettings,
        *,
        limit: int,
        clock: Callable[[], float],
        committed: Committed = lambda *_: None,
    ) -> None:
        self._series_index = series_index
        self._ids = ids
        self._bus = bus
        self._settle_s = settings.settle_ms / 1000
        self._limit = limit
        self._clock = clock
        self._committed = committed
        self._lines = [_Line() for _ in range(settings.partitions)]
        self._pending = 0
        self._channel: AbstractChannel | None = None
        self.open = asyncio.Event()
        """Set while measurements can be sent."""
        self._awaited: dict[str, asyncio.Future[Mapping[str, str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        bus.on(MessagesStored, self._was_stored)

    @property
    def pending(self) -> int:
        """The number of measurements that are not acknowledged yet."""
        return self._pending

    async def write(self, batch: Batch, receipt: Receipt | None = None) -> None:
        """Return when the batch and its receipt are safe. Raises UNAVAILABLE when RabbitMQ does not
        accept them, and INVALID when the receipt's key was used with another body."""
        if self._pending + len(batch) > self._limit and self._pending:
            raise _unavailable("More measurements arrive than can be handed on.")
        if self._channel is None:
            raise _unavailable("Measurements cannot be taken now.")
        posts = [
            (shard, _Post(each, given, asyncio.get_running_loop().create_future()))
            for shard, each, given in self._by_shard(batch, receipt)
        ]
        self._pending += len(batch)
        try:
            for shard, post in posts:
                self._lines[shard].posts.append(post)
                self._fly(shard)
            results = await asyncio.gather(*(p.done for _, p in posts), return_exceptions=True)
        finally:
            self._pending -= len(batch)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def drain(self) -> None:
        """Return when everything is sent and answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def serve(self, connection: AbstractConnection) -> None:
        """Publish over a connection."""
        self._channel = await connection.channel()
        self.open.set()
        try:
            await until_closed(self._channel)
        finally:
            self.open.clear()
            self._channel = None

    def _by_shard(
        self, batch: Batch, receipt: Receipt | None
    ) -> Iterable[tuple[int, Batch, Receipt | None]]:
        shards = self._ids.shards(batch.series)
        for shard in np.unique(shards).tolist():
            rows = shards == shard
            given = receipt
            if receipt is not None and shard != self._ids.shard_of(receipt.project_id):
                # Each shard keeps receipts of its own, so each needs a key of its own.
                given = replace(receipt, key=key_in(receipt.key, shard))
            if rows.all():
                yield shard, batch, given
                return
            yield shard, Batch(batch.series[rows], batch.timestamp[rows], batch.value[rows]), given

    def _fly(self, shard: int) -> None:
        line = self._lines[shard]
        if line.flights < FLIGHTS and line.posts:
            line.flights += 1
            task = asyncio.create_task(self._send(shard), name="hand over")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, shard: int) -> None:
        line = self._lines[shard]
        posts: Sequence[_Post] = ()
        try:
            # Clients that have just been answered post again at once: let them join this message.
            await asyncio.sleep(0)
            posts = _first_of(line)
            await self._hand_over(shard, posts)
        finally:
            if not posts:  # otherwise it has landed already
                self._land(shard)
            for post in posts:
                if not post.done.done():  # whoever ended this task must not leave them waiting
                    post.done.set_exception(_unavailable("It is not known whether it was taken."))
                    post.done.exception()

    def _land(self, shard: int) -> None:
        self._lines[shard].flights -= 1
        self._fly(shard)

    async def _hand_over(self, shard: int, posts: Sequence[_Post]) -> None:
        if not posts:
            return
        started = time.perf_counter()
        token = new_token()
        series = self._new_series(shard)
        stored: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        error: Exception | None = None
        self._awaited[token] = stored
        try:
            try:
                await self._publish(shard, token, posts, series)
            except Exception as raised:
                error = raised
            finally:
                self._land(shard)
            refused: Mapping[str, str] = {}
            if error is None:
                self._series_index.saved(series)
                refused = await self._settle(stored, bool(series))
                self._committed(sum(len(p.batch) for p in posts), time.perf_counter() - started)
        finally:
            self._awaited.pop(token, None)
        for post in posts:
            reason = refused.get(post.receipt.encoded_key) if post.receipt else None
            if post.done.done():
                continue
            if error is not None:
                post.done.set_exception(for_each(error))
            elif reason is not None:
                post.done.set_exception(HeliometerError(Code.INVALID, reason))
            else:
                post.done.set_result(None)
            post.done.exception()  # the client may be gone: that is not an error

    async def _publish(
        self, shard: int, token: str, posts: Sequence[_Post], series: Sequence[Series]
    ) -> None:
        now_ms = int(self._clock() * 1000)
        batch = Batch.concatenate([p.batch for p in posts])
        units: list[Unit] = []
        plain = 0
        for post in posts:  # posts without a key form one unit with their neighbours
            if post.receipt is None:
                plain += len(post.batch)
                continue
            if plain:
                units.append(Unit(plain, own_receipt(f"{token}-{len(units)}", now_ms)))
                plain = 0
            units.append(Unit(len(post.batch), post.receipt))
        if plain:
            units.append(Unit(plain, own_receipt(f"{token}-{len(units)}", now_ms)))
        shared = Batch(self._ids.to_shared(batch.series), batch.timestamp, batch.value)
        numbers = self._ids.to_shared(np.array([s.id for s in series], np.int64)).tolist()
        named = [s._replace(id=i) for s, i in zip(series, numbers, strict=True)]
        body = encode(Handover(token, named, units, shared))
        channel = self._channel
        if channel is None:
            raise _unavailable("Measurements cannot be taken now.")
        try:
            await asyncio.wait_for(
                channel.basic_publish(
                    body,
                    exchange=WORK,
                    routing_key=str(shard),
                    properties=persistent(now_ms, self._bus.queue),
                    mandatory=True,
                ),
                CONFIRM_S,
            )
        except aiormq.DeliveryError as error:
            raise _unavailable(
                "More measurements wait to be stored than there is room for."
            ) from error
        except (Exception, asyncio.CancelledError) as error:
            # However the connection was lost, nothing was confirmed.
            raise _unavailable("Measurements cannot be taken now.") from error

    def _new_series(self, shard: int) -> list[Series]:
        unsaved = self._series_index.unsaved()
        return [s for s in unsaved if self._ids.shard_of(s.project_id) == shard] if unsaved else []

    async def _settle(
        self, stored: asyncio.Future[Mapping[str, str]], new: bool
    ) -> Mapping[str, str]:
        """Wait, up to a limit, until the owner has stored the message; returns what it refused, by
        key."""
        if not self._settle_s:
            return {}
        try:
            refused: Mapping[str, str] = await asyncio.wait_for(stored, self._settle_s)
        except TimeoutError:
            return {}
        if new:
            await asyncio.sleep(SPREAD_S)
        return refused

    def _was_stored(self, event: MessagesStored) -> None:
        for token, refused in event.messages:
            waiting = self._awaited.get(token)
            if waiting is not None and not waiting.done():
                waiting.set_result(refused)


def _first_of(line: _Line) -> Sequence[_Post]:
    """Take the posts of the next message, as many as fit, but at least one if there is any."""
    size = count = 0
    for post in line.posts:
        size += len(post.batch)
        if count and size > LARGEST_MESSAGE:
            break
        count += 1
    posts, line.posts = line.posts[:count], line.posts[count:]
    return posts


def _unavailable(message: str) -> HeliometerError:
    return HeliometerError(
        Code.UNAVAILABLE, message, details="Send the request again a little later.", retry_after=2
    )
