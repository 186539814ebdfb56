"""Measurements out of the lines of a file: CSV, or one metric in HP JSON a line (v1.1 §2.4)."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from heliometer.cli.time_formats import LATEST_S, parse_ms
from heliometer.core.errors import Invalid
from heliometer.metrics.model import Dimensions
from heliometer.metrics.validation import (
    LARGEST,
    SMALLEST,
    check_dimension,
    check_namespace,
    check_value,
)


class Row(NamedTuple):
    """One measurement; ``series`` is an index into the reader's list."""

    line: int
    series: int
    timestamp_ms: int
    value: float


class Fault(NamedTuple):
    """A line that cannot be used, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Filling:
    """What the command line gives for what the file leaves out."""

    namespace: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)
    timestamp_column: str = "timestamp"
    value_column: str = "value"
    now_ms: int = 0
    """The timestamp of a metric without one."""


class Reader:
    """Turns lines into rows, and remembers the series it has seen, in order."""

    def __init__(self, filling: Filling) -> None:
        self.filling = filling
        self.series: list[tuple[str, Dimensions]] = []
        self._indices: dict[tuple[str, Dimensions], int] = {}
        self._known: dict[object, int | str] = {}

    def csv(self, lines: Iterable[str]) -> Iterator[Row | Fault]:
        """Rows of CSV with a header line: a timestamp, a value, and a dimension per other column.

        A column named ``namespace`` is the namespace. Empty cells are dimensions that the row
        does not have.
        """
        reader = csv.reader(lines, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            reason = self._check_header(header)
            if reason:
                yield Fault(1, reason)
                return
            yield from self._csv_rows(reader, header)
        except csv.Error as error:
            yield Fault(reader.line_num, f"not CSV: {error}")

    def _csv_rows(self, reader: Any, header: list[str]) -> Iterator[Row | Fault]:
        timestamp_at = header.index(self.filling.timestamp_column)
        value_at = header.index(self.filling.value_column)
        others = [i for i in range(len(header)) if i not in (timestamp_at, value_at)]
        for row in reader:
            line = reader.line_num
            if not row:
                continue
            if len(row) != len(header):
                yield Fault(line, f"{len(row)} fields where the header has {len(header)}")
                continue
            key = tuple([row[i] for i in others])
            series = self._known.get(key)
            if series is None:
                cells = {header[i]: row[i].strip() for i in others if row[i].strip()}
                series = self._learn(key, cells.pop("namespace", ""), cells)
            if isinstance(series, str):
                yield Fault(line, series)
                continue
            try:
                yield Row(line, series, parse_ms(row[timestamp_at]), _number(row[value_at]))
            except (ValueError, Invalid) as error:
                yield Fault(line, str(error))

    def _check_header(self, header: list[str]) -> str:
        for name, say in (
            (self.filling.timestamp_column, "--timestamp-column"),
            (self.filling.value_column, "--value-column"),
        ):
            if name not in header:
                has = ", ".join(header)[:200] or "nothing"
                return f"the header has no column {name!r}, only {has}; name it with {say}"
        for name in header:
            if not name or header.count(name) > 1:
                return (
                    f"the header has {'a column twice: ' + name if name else 'an unnamed column'}"
                )
        return ""

    def json_lines(self, lines: Iterable[bytes]) -> Iterator[Row | Fault]:
        """Rows of JSON lines; a vector gives several."""
        for line, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                metric = _DECODER.decode(text)
                rows = self._json_rows(line, metric)
            except (msgspec.MsgspecError, ValueError, Invalid, RecursionError) as error:
                yield Fault(line, str(error))
            else:
                yield from rows

    def _json_rows(self, line: int, metric: "_Metric") -> list[Row]:
        if (metric.value is None) == (metric.time_values is None):
            raise ValueError("a metric has either value or time_values")
        dimensions = metric.dimensions or {}
        key = (metric.namespace, tuple(sorted(dimensions.items())))
        series = self._known.get(key)
        if series is None:
            series = self._learn(key, metric.namespace, dimensions)
        if isinstance(series, str):
            raise ValueError(series)
        if metric.value is not None:
            return [Row(line, series, self._milliseconds(metric.timestamp), _checked(metric.value))]
        return [
            Row(line, series, self._milliseconds(timestamp), _checked(value))
            for timestamp, value in metric.time_values or ()
        ]

    def _milliseconds(self, seconds: float | None) -> int:
        if not seconds:
            return self.filling.now_ms
        if abs(seconds) > LATEST_S:
            raise ValueError(f"timestamp {seconds!r} is not in seconds; is it in milliseconds?")
        return round(seconds * 1000)

    def _learn(self, key: object, namespace: str, dimensions: Mapping[str, str]) -> int | str:
        """The index of a new series, or why it cannot be; what the file says wins over flags."""
        namespace = namespace or self.filling.namespace
        pairs = tuple(sorted({**self.filling.dimensions, **dimensions}.items()))
        known: int | str
        try:
            if not namespace:
                raise ValueError("no namespace; use --namespace")
            check_namespace(namespace)
            for name, value in pairs:
                check_dimension(name, value)
            identity = (namespace, pairs)
            known = self._indices.setdefault(identity, len(self.series))
            if known == len(self.series):
                self.series.append(identity)
        except (ValueError, Invalid) as error:
            known = str(error)
        self._known[key] = known
        return known


class _Metric(msgspec.Struct):
    """One metric, scalar or vector (v1.1 §2.4)."""

    namespace: str = ""
    dimensions: dict[str, str] | None = None
    timestamp: float | None = None
    value: float | None = None
    time_values: list[tuple[float, float]] | None = None


_DECODER = msgspec.json.Decoder(_Metric)


def _number(text: str) -> float:
    try:
        if "_" in text:
            raise ValueError  # Python's own notation, which is never meant here
        value = float(text)
    except ValueError:
        raise ValueError(f"value {text[:40]!r} is not a number") from None
    return _checked(value)


def _checked(value: float) -> float:
    if value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        check_value(value)
    return value
