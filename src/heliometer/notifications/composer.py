"""From deliveries to the message that is sent for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from heliometer.notifications.channels.channel import Channel, Rejected
from heliometer.notifications.chart_image import Chart, draw
from heliometer.notifications.messages import (
    Message,
    alarm_message,
    code_message,
    digest_message,
    test_message,
)
from heliometer.notifications.model import ALARM_MESSAGE, CODE_MESSAGE, TEST_MESSAGE, Delivery

log = logging.getLogger(__name__)

CHARTS_AT_ONCE = 2
CHART_DEADLINE_S = 5.0

MakeCode = Callable[[str], Awaitable[tuple[str, str] | None]]
MakeChart = Callable[[Delivery], Awaitable[Chart | None]]


class Composer:
    """Adds to a delivery's payload what is made when it is sent: codes, and charts."""

    def __init__(
        self, base_url: str, *, make_code: MakeCode, make_chart: MakeChart | None = None
    ) -> None:
        self._base_url = base_url
        self._make_code = make_code
        self._make_chart = make_chart
        self._drawing = asyncio.Semaphore(CHARTS_AT_ONCE)

    async def compose(
        self, deliveries: Sequence[Delivery], channel: Channel, *, with_chart: bool
    ) -> Message | None:
        """The message for one delivery, or for all that go in one digest.

        ``None``: its code has nothing left to confirm. Raises Rejected for an unknown kind.
        """
        delivery = deliveries[0]
        if len(deliveries) > 1:
            in_order = sorted(deliveries, key=lambda d: (d.payload["at_ms"], d.transition_id or 0))
            return digest_message(delivery, in_order, self._base_url)
        if delivery.kind == ALARM_MESSAGE:
            chart = await self._chart(delivery) if with_chart and channel.shows_chart else None
            return alarm_message(delivery, self._base_url, chart)
        if delivery.kind == TEST_MESSAGE:
            return test_message(delivery, self._base_url)
        if delivery.kind == CODE_MESSAGE:
            codes = await self._make_code(delivery.payload["address_id"])
            return code_message(delivery, *codes, self._base_url) if codes else None
        raise Rejected(f"there is no message of kind {delivery.kind}")

    async def _chart(self, delivery: Delivery) -> bytes | None:
        """A PNG; ``None`` when there is nothing to draw, or drawing fails: the message goes."""
        if self._make_chart is None:
            return None
        try:
            async with self._drawing, asyncio.timeout(CHART_DEADLINE_S):
                chart = await self._make_chart(delivery)
                return await asyncio.to_thread(draw, chart) if chart else None
        except Exception as error:
            log.warning("notification %s is sent without its chart: %s", delivery.id, error)
            return None
