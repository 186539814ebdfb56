"""Checks a file before anything of it is sent: faults, time range, step, shift."""

from array import array
from dataclasses import dataclass, replace

import numpy as np

from heliometer.cli.errors import CommandError
from heliometer.cli.file_rows import Fault, Filling
from heliometer.cli.input_files import Progress, Source
from heliometer.metrics.statistics import MINUTE_MS
from heliometer.metrics.validation import FUTURE_MS, PAST_MS

MARGIN_MS = 10_000
"""A measurement that is this close to two weeks old may be too old when it arrives."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A file that can be sent."""

    source: Source
    filling: Filling
    shift_ms: int
    """Added to every timestamp."""
    oldest_allowed_ms: int
    """Measurements that are older, once shifted, are skipped."""
    rows: int
    """How many measurements will be sent."""
    left_out: int
    series: int
    first_ms: int
    last_ms: int


def survey(
    source: Source, filling: Filling, *, shift: bool, skip_old: bool, progress: Progress
) -> Survey:
    """Read the whole file once. Raises CommandError for anything that the server would refuse."""
    if source.format == "csv" and source.stem and "metric_name" not in filling.dimensions:
        dimensions = {"metric_name": source.stem, **filling.dimensions}
        filling = replace(filling, dimensions=dimensions)
    timestamps = array("q")
    first_fault: Fault | None = None
    faults = 0
    series = 0
    for reader, row in source.read(filling, progress):
        if isinstance(row, Fault):
            first_fault = first_fault or row
            faults += 1
        else:
            timestamps.append(row.timestamp_ms)
            series = len(reader.series)
    if first_fault:
        more = f" ({faults - 1} more lines are wrong)" if faults > 1 else ""
        raise CommandError(
            f"{source.name}:{first_fault.line}: {first_fault.reason.rstrip('.')}{more}; "
            "nothing was sent"
        )
    times = np.sort(np.frombuffer(timestamps, np.int64)) if timestamps else np.empty(0, np.int64)
    now = filling.now_ms
    oldest_allowed = now - PAST_MS + MARGIN_MS
    moved = shift_to(times, now) if shift and len(times) else 0
    times = times + moved
    old = int(np.searchsorted(times, oldest_allowed))
    future = len(times) - int(np.searchsorted(times, now + FUTURE_MS, "right"))
    if future:
        raise CommandError(
            f"{source.name}: {_measurements(future)} more than two minutes in the future; nothing "
            "was sent; --shift-to-now moves the last one to now"
        )
    if old and not skip_old:
        hint = "--skip-old skips them" + ("" if shift else ", --shift-to-now shifts the file")
        raise CommandError(
            f"{source.name}: {_measurements(old)} older than two weeks, which the service "
            f"refuses; nothing was sent; {hint}"
        )
    kept = times[old:]
    first, last = (int(kept[0]), int(kept[-1])) if len(kept) else (now, now)
    return Survey(
        source, filling, moved, oldest_allowed, len(kept), old, series if len(kept) else 0, first,
        last,
    )  # fmt: skip


def shift_to(times: "np.typing.NDArray[np.int64]", now_ms: int) -> int:
    """Milliseconds, whole minutes, that move sorted ``times`` so that the last is now, floored to
    their own step.

    When that leaves the first just too old, the move is some minutes longer, as far as now allows.
    """
    last = int(times[-1])
    step = step_of(times)
    shift = (now_ms // step * step - last) // MINUTE_MS * MINUTE_MS
    lacking = now_ms - PAST_MS + MARGIN_MS - (int(times[0]) + shift)
    more = -(-lacking // MINUTE_MS) * MINUTE_MS
    if more > 0 and last + shift + more <= now_ms:
        shift += more
    return shift


def step_of(times: "np.typing.NDArray[np.int64]") -> int:
    """The commonest step of sorted ``times``, in milliseconds; a minute when there is none."""
    distances, counts = np.unique(np.diff(np.unique(times)), return_counts=True)
    return int(distances[counts.argmax()]) if len(distances) else MINUTE_MS


def _measurements(count: int) -> str:
    return f"{count} measurement{' is' if count == 1 else 's are'}"
