"""Turns messages of measurements into units of a shard, and replies to the senders."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aiormq.abc import DeliveredMessage

from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import MessagesStored, MessageStored
from heliometer.cluster.message import Handover, decode, is_own, split_units
from heliometer.cluster.retrying import until_done
from heliometer.cluster.series_catalog import SeriesCatalog
from heliometer.core.errors import HeliometerError
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.series_ids import SeriesIds
from heliometer.pipeline.shard import Unit

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Received:
    """The content of some messages, decoded."""

    units: list[Unit] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    """Series that the store does not have. Their senders assume from now on that they are stored,
    whatever becomes of the units."""
    senders: list[tuple[str, str, int]] = field(default_factory=list)
    """For each message: the sender's queue, its token, and its number of units."""


class Receiver:
    """Decodes the messages of one shard and replies to them."""

    def __init__(
        self, shard: int, ids: SeriesIds, series_catalog: SeriesCatalog, bus: EventBus
    ) -> None:
        self._shard = shard
        self._ids = ids
        self._series_catalog = series_catalog
        self._bus = bus

    async def read(self, messages: Sequence[DeliveredMessage], *, apart: bool) -> Received:
        """Decode messages; unreadable ones are logged and left out. ``apart``: treat each unit of a
        message separately, as is needed when they may be duplicates."""
        received = Received()
        series: dict[Series, None] = {}
        decoded: list[tuple[DeliveredMessage, Handover]] = []
        for message in messages:
            try:
                handover = decode(message.body)
            except ValueError as error:
                log.error("shard %d: a message cannot be read: %s", self._shard, error)
                continue
            series.update(dict.fromkeys(self._series_catalog.bring(handover.series)))
            decoded.append((message, handover))
        for message, handover in decoded:  # not before the series of all are known
            units = list(self._units(await self._with_local_ids(handover), apart))
            received.units += units
            reply_to = message.header.properties.reply_to or ""
            received.senders.append((reply_to, handover.token, len(units)))
        received.series = list(series)
        return received

    def reply(self, received: Received, refusals: Sequence[HeliometerError | None]) -> None:
        """Tell waiting senders that their messages are stored, and which keys were refused."""
        replies: dict[str, list[MessageStored]] = {}
        first = 0
        for queue, token, count in received.senders:
            refused = {
                unit.receipt.encoded_key: error.message
                for unit, error in zip(
                    received.units[first : first + count],
                    refusals[first : first + count],
                    strict=True,
                )
                if error is not None and unit.receipt is not None
            }
            first += count
            if queue:
                replies.setdefault(queue, []).append(MessageStored(token, refused))
        for queue, stored in replies.items():
            self._bus.reply(queue, MessagesStored(stored))

    def _units(self, handover: Handover, apart: bool) -> Iterator[Unit]:
        if not apart and all(is_own(receipt) for receipt in handover.receipts):
            yield Unit(self._known_rows(handover.batch), None, handover.receipts)
            return
        for each in split_units(handover):
            batch, receipt = self._known_rows(each.batch), each.units[0].receipt
            yield Unit(batch, None, (receipt,)) if is_own(receipt) else Unit(batch, receipt)

    async def _with_local_ids(self, handover: Handover) -> Handover:
        """The message with this process's series ids; 0 stands for an unknown series."""
        batch = handover.batch
        local = self._ids.to_local(batch.series)
        if not local.all():
            await until_done(
                self._series_catalog.refresh,
                f"the series of shard {self._shard} cannot be read",
            )
            local = self._ids.to_local(batch.series)
        return handover._replace(batch=Batch(local, batch.timestamp, batch.value))

    def _known_rows(self, batch: Batch) -> Batch:
        known = batch.series != 0
        if known.all():
            return batch
        # They could never be queried, since their names are unknown.
        log.error("%d measurements belong to series that are not known", (~known).sum())
        return Batch(batch.series[known], batch.timestamp[known], batch.value[known])
