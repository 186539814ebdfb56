"""What is known of the hosts and destinations that messages go to, so that one that hangs delays
no other."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from heliometer.core.bounded import put_newest

QUEUE_OF_A_HOST = 64
"""Messages under way to one host."""
AT_ONCE_A_HOST = 16
"""Those of them that are being handed over; the others wait for their turn."""
FAILURES_BEFORE_PAUSE = 5
PAUSE_S = 30.0
"""Seconds for which a host is left alone after so many failures in a row."""
BUSY_S = 1.0
DESTINATIONS = 10_000
"""Most destinations that are remembered to have asked for a pause; the oldest are asked again."""


@dataclass(slots=True)
class Host:
    """One host, or a channel that has only one."""

    name: str
    queue: int = 0
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE_A_HOST))
    failures: int = 0
    """Failures since the last success."""
    paused_until_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """For how long nothing more should be sent there; 0: there is room."""
        if self.queue < QUEUE_OF_A_HOST and self.paused_until_s <= now_s:
            return 0.0
        return max(BUSY_S, self.paused_until_s - now_s)

    def failed(self, now_s: float) -> bool:
        """Count a failure; return whether it is worth a line in the log."""
        self.failures += 1
        if self.failures >= FAILURES_BEFORE_PAUSE:
            self.paused_until_s = now_s + PAUSE_S
        return self.failures in (1, FAILURES_BEFORE_PAUSE)


class Hosts:
    """All hosts that have messages under way, or failures."""

    def __init__(self) -> None:
        self._known: dict[str, Host] = {}

    def get(self, name: str) -> Host:
        """The host with this name."""
        return self._known.setdefault(name, Host(name))

    @asynccontextmanager
    async def queued(self, host: Host) -> AsyncIterator[None]:
        """Inside, a message counts as under way to the host."""
        host.queue += 1
        try:
            yield
        finally:
            host.queue -= 1
            if not host.queue and not host.failures:
                self._known.pop(host.name, None)


class Pauses:
    """Until when destinations asked to be left alone. Times are seconds since any moment."""

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}

    def pause(self, destination: Hashable, until_s: float) -> None:
        """Leave a destination alone until then."""
        put_newest(self._until, destination, until_s, DESTINATIONS)

    def wait_s(self, destination: Hashable, now_s: float) -> float:
        """For how long nothing should be sent there; 0: it may be."""
        wait_s = self._until.get(destination, now_s) - now_s
        if wait_s > 0:
            return wait_s
        self._until.pop(destination, None)
        return 0.0
