"""Detects that this process stalled, so that others may have taken over from it meanwhile."""

import asyncio
import time

from aiormq.abc import AbstractConnection

BEAT_S = 1.0
FROZEN_S = 6.0
"""The shortest stall that counts. RabbitMQ reassigns a silent process's shards after ten seconds at
the earliest (``connection.HEARTBEAT_S``)."""
THAWING_S = 10.0
"""The time in which the loss of the connection is noticed after a stall."""


class StallDetector:
    """A process that was stopped or swapped out resumes in the middle of its work, and learns only
    a moment later that its shards have other owners."""

    def __init__(self) -> None:
        self._beat_at = time.monotonic()
        self._thawed_at = 0.0

    @property
    def is_doubtful(self) -> bool:
        """Whether this process stalled a moment ago."""
        self._look()
        return time.monotonic() - self._thawed_at < THAWING_S

    async def serve(self, connection: AbstractConnection) -> None:
        """Look at the clock once a second."""
        self._beat_at = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_S)
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._beat_at > FROZEN_S:
            self._thawed_at = now
        self._beat_at = now
