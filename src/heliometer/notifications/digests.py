"""Which destinations get too many messages, and when their next digest is due."""

from collections.abc import Callable

from heliometer.config import NotifySettings
from heliometer.notifications.checks import HOUR_MS
from heliometer.notifications.model import Delivery
from heliometer.notifications.ports import Outbox

Destination = tuple[str, str, str]
"""Project, type and address: a digest never joins two projects."""


class Digests:
    """Decides for each alarm message whether it goes as it is. ``now_ms`` is the time since the
    epoch."""

    def __init__(self, outbox: Outbox, settings: NotifySettings, now_ms: Callable[[], int]) -> None:
        self._outbox = outbox
        self._settings = settings
        self._now_ms = now_ms
        self._due: dict[Destination, int] = {}

    def collects(self, destination: Destination) -> bool:
        """Whether messages to the destination are being collected."""
        return destination in self._due

    async def due_ms(self, delivery: Delivery) -> int:
        """When the digest is due that a message belongs to; 0: send the message as it is."""
        destination = destination_of(delivery)
        now = self._now_ms()
        sent = await self._outbox.delivered_since(delivery.type, delivery.address, now - HOUR_MS)
        due = self._due.get(destination)
        if sent < self._settings.per_address_per_hour:
            self._due.pop(destination, None)
            return due or 0
        interval = self._settings.digest_interval * 1000
        if due is None or due <= now:
            self._due[destination] = now + interval
        return due or now + interval


def destination_of(delivery: Delivery) -> Destination:
    """What one digest is for."""
    return delivery.project_id, delivery.type, delivery.address
