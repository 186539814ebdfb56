"""A line chart of statistics for the terminal (docs/decisions/0004-terminal-plots.md)."""

import locale
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from heliometer.cli.table import common_dimensions, label
from heliometer.cli.time_formats import show

LINES = 6
"""The most lines that can be told apart in one chart."""
HEIGHT = 16
MARGIN = 14
"""The width of the frame and of the value axis's labels, in columns."""
ASCII = str.maketrans("┌┐└┘─│├┤┬┴┼█", "++++-|+++++#")
MARKS = "*+x#o@"
COLORS = ("cyan", "magenta", "green", "yellow", "blue", "red")
PREFIXES = {-9: "n", -6: "µ", 6: "M", 9: "G", 12: "T", 15: "P"}
UNITS = (
    (("_bytes", "bytes_", "bytes"), " B"),
    (("percent", "_perc", "utilization"), " %"),
    (("_ms", "milliseconds"), " ms"),
    (("seconds", "_time"), " s"),
)


class Drawable(Protocol):
    """Statistics of one series."""

    @property
    def dimensions(self) -> Mapping[str, str]: ...
    @property
    def datapoints(self) -> Mapping[str, Sequence[float]]: ...


def draw(
    namespace: str,
    found: Sequence[Drawable],
    names: Sequence[str],
    period: int,
    *,
    columns: int | None = None,
    unicode: bool | None = None,
    color: bool | None = None,
) -> str:
    """The chart, as wide as the terminal, with colours and block characters where those can be
    shown."""
    import numpy as np
    from uniplot import plot_to_string

    columns = columns or shutil.get_terminal_size((80, 24)).columns
    unicode = _can_show_blocks() if unicode is None else unicode
    color = sys.stdout.isatty() if color is None else color
    lines = [(series, name) for series in found for name in names]
    left_out = len(lines) - LINES
    lines = lines[:LINES]
    shared = common_dimensions([series.dimensions for series, _ in lines])
    xs: list[Any] = []
    ys: list[list[float]] = []
    labels = []
    for series, name in lines:
        times, values = with_gaps(series.datapoints["timestamp"], series.datapoints[name], period)
        if len(times) == 1:
            # A single point has no width: leave room on both sides.
            times, values = [times[0] - period, times[0], times[0] + period], [
                math.nan, values[0], math.nan,
            ]  # fmt: skip
        xs.append(np.array([round(t * 1000) for t in times], "datetime64[ms]"))
        ys.append(values)
        own = {k: v for k, v in series.dimensions.items() if k not in shared}
        labels.append(f"{name} {label(own)}".strip())
    # Without colours lines differ by their marks, which only the ASCII set has.
    plain = not (unicode and (color or len(lines) == 1))
    times = [t for series, _ in lines for t in series.datapoints["timestamp"]]
    ys, unit, bounds = scaled(ys, unit_of(shared.get("metric_name", ""), names))
    text = plot_to_string(
        xs=xs,
        ys=ys,
        lines=[True] * len(lines),
        width=max(columns - MARGIN, 20),
        height=HEIGHT,
        character_set="ascii" if plain else "block",
        force_ascii_characters=list(MARKS),
        color=list(COLORS) if color and len(lines) > 1 else False,
        y_unit=unit,
        **bounds,
    )
    head = f"{namespace}  {label(shared)}".rstrip()
    begin, end = (show(t, seconds=period % 60 > 0) for t in (min(times), max(times) + period))
    span = f"{begin} to {end}, one datapoint per {_duration(period)}"
    foot = _legend(labels, plain=plain, color=color)
    if left_out > 0:
        foot.append(f"{left_out} more lines are not drawn; narrow the dimensions, or use --csv")
    text = "\n".join([head, *text.splitlines(), f"UTC: {span}", *foot])
    return text if unicode else text.translate(ASCII)


def with_gaps(
    times: Sequence[float], values: Sequence[float], period: int
) -> tuple[list[float], list[float]]:
    """The datapoints, with an empty one wherever periods without measurements were left out, so
    that no line is drawn across the gap."""
    out_times: list[float] = []
    out_values: list[float] = []
    for time, value in zip(times, values, strict=True):
        if out_times and time - out_times[-1] > period * 1.5:
            out_times.append(out_times[-1] + period)
            out_values.append(math.nan)
        out_times.append(time)
        out_values.append(value)
    return out_times, out_values


def unit_of(metric_name: str, names: Sequence[str]) -> str:
    """The unit in a metric's name (v1.1 §2.3.2), for the statistics that have a unit."""
    if "count" in names:
        return ""
    lowered = metric_name.lower()
    for parts, unit in UNITS:
        if any(part in lowered for part in parts):
            return unit
    return ""


def scaled(
    ys: Sequence[Sequence[float]], unit: str
) -> tuple[list[list[float]], str, dict[str, float]]:
    """Values scaled so that they need few digits, their unit then, and bounds for a range that
    would be empty."""
    known = [value for line in ys for value in line if not math.isnan(value)]
    least, most = min(known), max(known)
    largest = max(abs(least), abs(most))
    exponent = math.floor(math.log10(largest) / 3) * 3 if largest else 0
    if -3 <= exponent < 6:
        exponent = 0
    factor = 10.0 ** min(-exponent, 300)  # values below 1e-300 are drawn close to 0
    if exponent:
        prefix = PREFIXES.get(exponent) if unit in (" B", " s") else None
        unit = f" {prefix}{unit.strip()}" if prefix else f" x 1e{exponent}{unit}"
    bounds = {}
    if least == most:
        middle = most * factor
        room = 1.0 if abs(middle) >= 2 or not middle else abs(middle) / 10
        bounds = {"y_min": middle - room, "y_max": middle + room}
    return [[value * factor for value in line] for line in ys], unit, bounds


def _legend(labels: Sequence[str], *, plain: bool, color: bool) -> list[str]:
    import click

    if len(labels) == 1:
        return list(labels)
    marks = [mark * 2 for mark in MARKS] if plain else ["██"] * len(labels)
    return [
        f"{click.style(mark, fg=shade) if color else mark} {text}"
        for mark, shade, text in zip(marks, COLORS, labels, strict=False)
    ]


def _duration(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _can_show_blocks() -> bool:
    encoding = sys.stdout.encoding or locale.getpreferredencoding(False)
    try:
        "█▚┌─│".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
