"""Messages of measurements as units of a shard."""

from typing import Any

import numpy as np
from aiormq.abc import DeliveredMessage
from pamqp import commands
from pamqp.header import ContentHeader

from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.message import Handover, Unit, encode, own_receipt
from heliometer.cluster.received import Receiver
from heliometer.cluster.series_catalog import SeriesCatalog
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.series_ids import SeriesIds, shared_id
from heliometer.metrics.series_index import SeriesIndex

NAMED = Series(0, "p", "ns", (("host", "a"),))
NEW = NAMED._replace(id=shared_id(NAMED))


class Empty:
    """A store without series."""

    async def load_series(self) -> list[Series]:
        return []

    async def series_since(self, at_ms: int) -> list[Series]:
        return []


def message(value: float, *series: Series) -> DeliveredMessage:
    """A measurement of ``NEW``; ``series``: those that the message names."""
    token = f"t{value}"
    batch = Batch(np.array([NEW.id]), np.array([0]), np.array([value]))
    body = encode(Handover(token, list(series), [Unit(1, own_receipt(token, 0))], batch))
    header = ContentHeader(body_size=len(body), properties=commands.Basic.Properties())
    delivery: Any = commands.Basic.Deliver("me", 1, False, "", "")
    channel: Any = None
    return DeliveredMessage(delivery, header, body, channel)


async def test_a_series_may_be_named_by_a_later_message_of_a_group() -> None:
    ids, bus = SeriesIds(1), EventBus("me")
    index = SeriesIndex([], 10, ids)
    receiver = Receiver(0, ids, SeriesCatalog(Empty(), index, ids, bus, lambda: 1.0), bus)
    received = await receiver.read([message(1), message(2, NEW)], apart=False)
    assert [unit.batch.value.tolist() for unit in received.units] == [[1], [2]]
    assert [series.dimensions for series in received.series] == [NEW.dimensions]
