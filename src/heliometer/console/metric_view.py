"""What the metrics explorer shows, as its URL says it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heliometer.console.page_request import PageRequest
from heliometer.core.errors import Malformed
from heliometer.metrics.statistics import STATISTICS

RANGES = {
    "15m": 900, "1h": 3600, "3h": 10_800, "12h": 43_200, "24h": 86_400, "7d": 604_800,
    "14d": 1_209_600, "30d": 2_592_000,
}  # fmt: skip
DEFAULT_RANGE = "3h"
PERIODS = (10, 60, 300, 900, 3600, 10_800, 86_400)
POINTS = 500
"""Approximate number of datapoints per line in a chart."""


@dataclass(frozen=True, slots=True)
class View:
    """The series, statistics, time span and period of a chart."""

    namespace: str
    dimensions: Mapping[str, str]
    statistics: tuple[str, ...]
    range: str
    start_ms: int
    end_ms: int
    fixed: bool
    """Whether the URL has a start and an end, rather than a range until now."""
    period_s: int
    auto: bool
    """Whether the period follows from the span."""

    @property
    def auto_text(self) -> str:
        """The choice of an automatic period, with its value."""
        return f"Auto ({duration(fitting_period(self.start_ms, self.end_ms))})"


def read_view(request: PageRequest, now_ms: int) -> View:
    """The view of a URL. Raises MALFORMED."""
    given = request.query
    wanted = [name for name in request.queries("stat") if name in STATISTICS] or ["avg"]
    span = given.get("range", DEFAULT_RANGE)
    if span not in RANGES:
        raise Malformed(f"range: {span[:20]!r} is none.", details=f"One of {', '.join(RANGES)}.")
    start, end = given.get("start", ""), given.get("end", "")
    fixed = bool(start and end)
    end_ms = _seconds("end", end) * 1000 if fixed else now_ms + 1
    start_ms = _seconds("start", start) * 1000 if fixed else end_ms - RANGES[span] * 1000
    if start_ms >= end_ms:
        raise Malformed("start: must be before the end.")
    period = given.get("period", "")
    if period and not (period.isdecimal() and 0 < int(period[:9]) <= 366 * 86_400):
        raise Malformed("period: must be a number of seconds.")
    return View(
        given.get("ns", "").strip(),
        read_dimensions(request.queries("d")),
        tuple(dict.fromkeys(wanted)),
        span,
        start_ms,
        end_ms,
        fixed,
        int(period[:9]) if period else fitting_period(start_ms, end_ms),
        not period,
    )


def fitting_period(start_ms: int, end_ms: int) -> int:
    """The period, in seconds, that gives a chart of this span about POINTS datapoints."""
    wanted = (end_ms - start_ms) / 1000 / POINTS
    return next((period for period in PERIODS if period >= wanted), PERIODS[-1])


def duration(seconds: int) -> str:
    """Seconds in their largest whole unit, such as ``5 min``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def read_dimensions(given: Sequence[str], *, strict: bool = True) -> dict[str, str]:
    """Pairs ``key:value``. Others are ignored, or if ``strict`` raise MALFORMED."""
    dimensions: dict[str, str] = {}
    for text in given:
        key, colon, value = text.strip().partition(":")
        if colon and key and value:
            dimensions[key.strip()] = value
        elif text.strip() and strict:
            raise Malformed(f"d: {text[:60]!r} is not key:value.", details="Such as host:web1.")
    return dimensions


def blank_view(now_ms: int) -> View:
    """The view without a namespace."""
    return View("", {}, ("avg",), DEFAULT_RANGE, now_ms - 10_800_000, now_ms, False, 60, True)


def _seconds(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,11}", text):
        raise Malformed(f"{name}: must be Unix time in seconds.")
    return int(text)
