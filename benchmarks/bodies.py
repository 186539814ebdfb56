"""Requests with many metrics, written once; timestamps and values are filled in in place.

Every metric's text has the same length, so that filling a thousand in is a few array operations:
encoding must not take the time that the server is measured in.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.server import request

Chars = NDArray[np.uint8]

NAMESPACE = "benchmark"
REGION = "region-1"
METRICS_A_HOST = 100
VALUE = "555.55"
"""Stands where a value is filled in, and shows its form."""
STAMP_S, STAMP_MS = "1000000000", "1000000000000"
"""Stand where a timestamp is filled in."""


def dimensions(series: int) -> dict[str, str]:
    """The three dimensions of a series: a hundred metrics on each host."""
    host, metric = divmod(series, METRICS_A_HOST)
    return {
        "host": f"host-{host:04d}",
        "metric_name": f"metric-{metric:03d}",
        "region": REGION,
    }


class Values:
    """Random walks between 100.00 and 999.99 with two decimals, as text. Endless: to the end and
    back again."""

    def __init__(self, series: int, rounds: int = 256, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        steps = random.normal(0, 200, (rounds, series))
        start = random.uniform(20_000, 90_000, series)
        walk = np.clip(start + np.cumsum(steps, axis=0), 10_000, 99_999)
        self.hundredths = np.rint(walk).astype(np.int64)
        digits = self.hundredths[..., None] // 10 ** np.arange(4, -1, -1) % 10 + ord("0")
        self.text: Chars = np.insert(digits, 3, ord("."), axis=2).astype(np.uint8)

    def round_at(self, number: int) -> int:
        """Which row is the ``number``-th round."""
        rounds = len(self.text)
        place = number % (2 * rounds)
        return place if place < rounds else 2 * rounds - 1 - place


class Body:
    """A request whose metrics all carry ``points`` measurements each."""

    def __init__(
        self,
        path: str,
        records: Sequence[str],
        brackets: tuple[str, str, str],
        headers: dict[str, str],
        stamp: str = STAMP_S,
    ) -> None:
        opening, separator, closing = brackets
        record = records[0]
        if {len(r) for r in records} != {len(record)} or len(separator) != 1:
            raise ValueError("the records must have one length")
        text = opening + separator.join(records) + (closing or separator)
        whole = request("POST", path, text.encode("ascii"), headers)
        self._buffer = np.frombuffer(bytearray(whole), dtype=np.uint8)
        width = len(record) + 1
        records_at = len(whole) - len(records) * width
        self._records = self._buffer[records_at:].reshape(len(records), width)
        self._stamps = [slice(i, i + len(stamp)) for i in _places(record, stamp)]
        self._values = [slice(i, i + len(VALUE)) for i in _places(record, VALUE)]

    def fill(self, stamps: Sequence[int], values: Sequence[Chars]) -> memoryview:
        """Write the timestamps, and for each of them the values of all records."""
        for place, stamp in zip(self._stamps, stamps, strict=True):
            self._records[:, place] = np.frombuffer(b"%d" % stamp, dtype=np.uint8)
        for place, value in zip(self._values, values, strict=True):
            self._records[:, place] = value
        return self._buffer.data


def heliometer_body(series: range, points: int, headers: dict[str, str]) -> Body:
    """An aggregate post (§4.4.7.2): scalar metrics, or vectors of ``points`` pairs."""
    pairs = ",".join([f"[{STAMP_S},{VALUE}]"] * points)
    data = f'"timestamp":{STAMP_S},"value":{VALUE}' if points == 1 else f'"time_values":[{pairs}]'

    def record(number: int) -> str:
        return f'{{"namespace":"{NAMESPACE}","dimensions":{{{_json_pairs(number)}}},{data}}}'

    records = [record(n) for n in series]
    return Body("/v1.1/metrics/aggregate", records, ("[", ",", "]"), headers)


def heliometer_single_body(series: range, _points: int, headers: dict[str, str]) -> Body:
    """A post of one scalar metric (§4.4.7.1)."""
    record = (
        f'{{"namespace":"{NAMESPACE}","dimensions":{{{_json_pairs(series[0])}}},'
        f'"timestamp":{STAMP_S},"value":{VALUE}'
    )
    return Body("/v1.1/metrics", [record], ("", "}", ""), headers)


def victoria_body(series: range, _points: int, headers: dict[str, str]) -> Body:
    """The same as JSON lines for VictoriaMetrics' ``/api/v1/import``."""

    def record(number: int) -> str:
        return (
            f'{{"metric":{{"__name__":"{NAMESPACE}",{_json_pairs(number)}}},'
            f'"values":[{VALUE}],"timestamps":[{STAMP_MS}]}}'
        )

    records = [record(n) for n in series]
    return Body("/api/v1/import", records, ("", "\n", ""), headers, STAMP_MS)


Make = Callable[[range, int, dict[str, str]], Body]


class Rounds:
    """An endless supply of requests: round by round all series, some thousand points a request.

    Called with a connection's number; each connection has buffers of its own.
    """

    def __init__(
        self,
        make: Make,
        headers: dict[str, str],
        *,
        series: int,
        batch: int,
        points: int = 1,
        start_s: int,
        step_s: int,
        rounds: int | None = None,
        connections: int = 4,
        stamp_scale: int = 1,
    ) -> None:
        self._values = Values(series)
        self._slices = [range(i, i + batch) for i in range(0, series, batch)]
        self._bodies = [
            [make(part, points, headers) for part in self._slices] for _ in range(connections)
        ]
        self._points = points
        self._start_s, self._step_s, self._scale = start_s, step_s, stamp_scale
        numbers = itertools.count() if rounds is None else iter(range(rounds))
        parts = range(len(self._slices))
        self._jobs = ((number, part) for number in numbers for part in parts)

    def __call__(self, connection: int) -> memoryview | None:
        """The next request, for that connection."""
        job = next(self._jobs, None)
        if job is None:
            return None
        number, part = job
        first = number * self._points
        stamps = [
            (self._start_s + (first + i) * self._step_s) * self._scale for i in range(self._points)
        ]
        where = self._slices[part]
        values = [
            self._values.text[self._values.round_at(first + i), where.start : where.stop]
            for i in range(self._points)
        ]
        return self._bodies[connection][part].fill(stamps, values)


def _json_pairs(series: int) -> str:
    return ",".join(f'"{k}":"{v}"' for k, v in dimensions(series).items())


def _places(record: str, what: str) -> list[int]:
    """Where ``what`` stands in the record."""
    places = []
    at = record.find(what)
    while at >= 0:
        places.append(at)
        at = record.find(what, at + len(what))
    return places
