"""How much waits in the outbox, and for how long: figures that one can alarm on."""

from collections.abc import Callable
from contextlib import suppress

from heliometer.core.errors import HeliometerError
from heliometer.notifications.model import NOTHING_WAITS
from heliometer.notifications.ports import DeliveryLog

LOOK_S = 5.0
"""Seconds between two looks."""


class BacklogWatch:
    """The backlog as last seen. While the database does not answer, its age goes on growing."""

    def __init__(self, deliveries: DeliveryLog, clock: Callable[[], float]) -> None:
        self._deliveries = deliveries
        self._clock = clock
        self._seen = NOTHING_WAITS

    async def look(self) -> None:
        """Look into the outbox."""
        with suppress(HeliometerError):  # which health reports
            self._seen = await self._deliveries.backlog()

    def waiting(self) -> float:
        """How many notifications wait."""
        return self._seen.waiting

    def age_s(self) -> float:
        """How long the oldest has waited, in seconds; 0 if none waits."""
        since_ms = self._seen.oldest_ms
        return 0.0 if since_ms is None else max(0.0, self._clock() - since_ms / 1000)
