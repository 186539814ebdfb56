"""Measurements as messages: the metrics JSON, scalar form (v1.1 §2.4)."""

from collections.abc import Callable

import msgspec

from heliometer.metrics.model import Series

HEADS = 100_000
"""Series whose head is remembered; beyond it all are forgotten and rendered anew."""
_encode = msgspec.json.Encoder().encode


class Renderer:
    """Renders measurements; what only depends on the series is rendered once."""

    def __init__(self, series: Callable[[int], Series]) -> None:
        self._series = series
        self._heads: dict[int, bytes] = {}

    def render(
        self, series_ids: list[int], timestamps: list[int], values: list[float]
    ) -> list[bytes]:
        """One body a measurement. Timestamps in milliseconds; in the message they are seconds,
        whole where they can be."""
        heads = self._heads
        bodies = []
        for series_id, timestamp, value in zip(series_ids, timestamps, values, strict=True):
            head = heads.get(series_id)
            if head is None:
                head = self._head(series_id)
            seconds, rest = divmod(timestamp, 1000)
            at = repr(timestamp / 1000) if rest else str(seconds)
            bodies.append(head + f'{at},"value":{value!r}}}'.encode())
        return bodies

    def _head(self, series_id: int) -> bytes:
        if len(self._heads) >= HEADS:
            self._heads.clear()
        series = self._series(series_id)
        document = {"namespace": series.namespace, "dimensions": dict(series.dimensions)}
        head = self._heads[series_id] = _encode(document)[:-1] + b',"timestamp":'
        return head
