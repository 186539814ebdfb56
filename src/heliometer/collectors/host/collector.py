"""The host collector: keeps the last snapshot to compare the next one with."""

import time
from collections.abc import Callable

from heliometer.collectors import Due, Measurement
from heliometer.collectors.host.instance import instance_id
from heliometer.collectors.host.reader import Reader
from heliometer.collectors.measure import COMPUTE, measure, remembered, utilization
from heliometer.collectors.snapshot import Snapshot

FIRST_LOOK_S = 0.5
"""How long the first round observes the processor, so that it can report a utilization."""


class HostCollector:
    """Reports this machine; see ``docs/collectors.md`` for the metrics."""

    def __init__(
        self,
        read: Callable[[float], Snapshot] | None = None,
        instance: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.instance = instance or instance_id()
        self._read = read or Reader().read
        self._monotonic = monotonic
        self._sleep = sleep
        self._last: Snapshot | None = None

    def collect(self, timestamp_ms: int, due: Due = lambda _: True) -> list[Measurement]:
        """Counters, and deltas since the last round; the first round has only counters and the
        utilization. Raises OSError when nothing can be read."""
        if not due(""):
            return []
        first = self._last is None
        before = self._last or self._read(self._monotonic())
        if first:
            self._sleep(FIRST_LOOK_S)
        after = self._read(self._monotonic())
        self._last = remembered(self._last, after)
        if not first:
            return measure(before, after, self.instance, timestamp_ms)
        found = measure(None, after, self.instance, timestamp_ms)
        percent = utilization(before.cpu, after.cpu) if before.cpu and after.cpu else None
        if percent is not None:
            dimensions = {"instance_id": self.instance, "metric_name": "cpu_total_utilization"}
            found.append(Measurement(COMPUTE, dimensions, timestamp_ms, round(percent, 3)))
        return found
