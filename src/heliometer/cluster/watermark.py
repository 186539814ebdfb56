"""How far a shard's time is known.

Evaluators send the time to every shard's queue once a second, as ticks. Whatever was accepted
before a tick was sent has arrived before it, however long both waited. Where ticks are missing,
because no evaluator was running to send them, the send times of the measurements' messages are
used.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from aiormq.abc import DeliveredMessage

from heliometer.alarms.scheduler import PUNCTUAL_MS

log = logging.getLogger(__name__)

EVALUATION_S = 30.0
"""How long the watermark waits for an evaluation before it advances anyway, in seconds."""
POLL_S = 0.02
UNTICKED_MS = 60_000
"""The lag of the watermark behind the messages' send times when there are no ticks: whatever was
sent so much earlier than a message has arrived before it, whichever process sent either."""
BELIEVED_AHEAD_MS = 20_000
"""A sender whose clock is further ahead is not believed. Less than ``PUNCTUAL_MS``, so that a clock
that is believed does not look like a gap in which nothing was sent."""
LOG_AGAIN_MS = 600_000


class Evaluation(Protocol):
    """Evaluates the minutes that the watermark has passed."""

    @property
    def due_ms(self) -> int:
        """When the next minute is due for evaluation."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether the evaluation has ended."""
        ...


class Watermark:
    """A clock of the shard: calling it returns how far its time is known, in seconds.

    It never goes back.
    """

    def __init__(self, shard: int, clock: Callable[[], float]) -> None:
        self._shard = shard
        self._clock = clock
        self._ms = 0
        self._moved = asyncio.Event()
        self._newest_ms = 0
        """When the newest message was sent."""
        self._logged_ms = 0
        """When the log last said that a clock is ahead."""

    def __call__(self) -> float:
        return self._ms / 1000

    async def sleep(self, seconds: float) -> None:
        """Sleep by this clock for so many seconds, or less."""
        if seconds > 0:
            await self._moved.wait()

    def start(self, now_ms: int) -> None:
        """Start at the time that a newly owned queue has reached."""
        self._set(now_ms)
        self._newest_ms = now_ms

    def saw(self, sent_ms: int) -> None:
        """Note that a message with this send time has been taken from the queue."""
        self._newest_ms = max(self._newest_ms, sent_ms)

    def reached_by(self, message: DeliveredMessage) -> int:
        """How far the time is known once a message of measurements has arrived, in milliseconds."""
        sent_ms = self.sent_ms(message)
        is_gap = sent_ms - self._newest_ms > PUNCTUAL_MS
        return sent_ms if is_gap else sent_ms - UNTICKED_MS

    def sent_ms(self, message: DeliveredMessage) -> int:
        """When a message was sent; 0 if it does not say, or its clock is not believed."""
        sent = message.header.properties.timestamp
        sent_ms = int(sent.timestamp() * 1000) if sent else 0
        return sent_ms if self.is_believed(sent_ms) else 0

    def is_believed(self, sent_ms: int) -> bool:
        """Whether another process's clock is not too far ahead of this one's; if it is, that is
        logged."""
        now_ms = int(self._clock() * 1000)
        if sent_ms <= now_ms + BELIEVED_AHEAD_MS:
            return True
        if now_ms > self._logged_ms + LOG_AGAIN_MS:
            self._logged_ms = now_ms
            log.error(
                "shard %d: the clock of a process that sends is %.0f s ahead of the clock here, "
                "and not believed; let NTP set the clocks",
                self._shard,
                (sent_ms - now_ms) / 1000,
            )
        return False

    async def advance(self, to_ms: int, evaluation: Evaluation) -> None:
        """Advance, one evaluation at a time."""
        if to_ms - self._newest_ms > PUNCTUAL_MS:
            # Nothing was sent for a while: the service was down, and due evaluations are late.
            self._set(to_ms)
        while (due_ms := evaluation.due_ms) <= to_ms:
            self._set(due_ms)
            for _ in range(int(EVALUATION_S / POLL_S)):
                if evaluation.due_ms > due_ms or evaluation.has_ended:
                    break
                await asyncio.sleep(POLL_S)
            else:
                break
            if evaluation.has_ended:
                return
        self._set(to_ms)

    def _set(self, to_ms: int) -> None:
        if to_ms > self._ms:
            self._ms = to_ms
            self._moved.set()
            self._moved = asyncio.Event()
