"""Limits the request rate of each project."""

from collections.abc import Callable

from heliometer.core.errors import Code, HeliometerError

_REMEMBERED = 100_000


class RateLimit:
    """A token bucket for each project: ``rate`` requests a second, ``2 * rate`` at once."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, project_id: str) -> None:
        """Count one request. Raises RATE_LIMITED when the bucket is empty."""
        if not self._rate:
            return
        now = self._clock()
        most = max(1.0, 2 * self._rate)
        left, at = self._buckets.get(project_id, (most, now))
        left = min(most, left + (now - at) * self._rate)
        if left < 1:
            raise HeliometerError(
                Code.RATE_LIMITED,
                f"The project sends more than {self._rate:g} requests a second.",
                details="Send fewer and larger requests, such as POST /v1.1/metrics/aggregate.",
                retry_after=max(1, round((1 - left) / self._rate)),
            )
        if len(self._buckets) >= _REMEMBERED:
            self._buckets.clear()
        self._buckets[project_id] = (left - 1, now)
