"""What becomes of a delivery after an attempt: pure decisions."""

import random
from collections.abc import Callable

from heliometer.core.retry import doubled_s
from heliometer.notifications.model import FAILED, PENDING, Delivery, Settlement

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 900.0


def after_failure(
    delivery: Delivery,
    reason: str,
    now_ms: int,
    retry_period_s: int,
    jitter: Callable[[float, float], float] = random.uniform,
    *,
    least_s: float = 0.0,
) -> Settlement:
    """Another attempt after a pause that doubles each time and is no shorter than ``least_s``
    seconds, or the end when the retry period is over by then."""
    delay_s = doubled_s(delivery.attempts + 1, FIRST_RETRY_S, LONGEST_RETRY_S)
    at = now_ms + int(max(delay_s * jitter(0.5, 1.0), least_s) * 1000)
    if at - delivery.started_ms >= retry_period_s * 1000:
        return Settlement(delivery.id, FAILED, reason)
    return Settlement(delivery.id, PENDING, reason, at)


def reason_of(error: Exception) -> str:
    """Why an attempt failed, in a line for the delivery log."""
    said = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    return said or type(error).__name__
