"""What one pushed request holds, gathered sample by sample; what cannot be stored is left out."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from heliometer.api.push.naming import shown
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.series_index import Name, ProjectSeries
from heliometer.metrics.service import Columns, Metrics
from heliometer.metrics.validation import (
    FUTURE_MS,
    LARGEST,
    PAST_MS,
    SMALLEST,
    check_timestamp,
    check_value,
)

MOST_SAMPLES = 100_000
"""In one request: what is read beyond holds up everybody else."""
LONGEST_SPELLING = 1024
"""Bytes of a spelling that is worth remembering."""


@dataclass(slots=True)
class Intake:
    """Gathers samples for one project.

    ``form`` names the spelling that the format has of a series: see ``ProjectSeries.spellings``.
    """

    project: ProjectSeries
    form: str
    now_ms: int
    series: list[int | None] = field(default_factory=list)
    names: dict[int, tuple[Name, bytes | None]] = field(default_factory=dict)
    stamps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    left_out: int = 0
    reason: str = ""
    """Why the first sample was left out."""
    stamped: bool = True
    """Whether every sample said its own time: only then is the same request again a repetition."""

    def add(
        self,
        namespace: str,
        spelling: bytes | None,
        name: Callable[[], Name],
        timestamp_ms: int | None,
        value: float,
    ) -> None:
        """Take a sample of the series that is spelt so, or else has that name.

        NaN says that there is no value, and is nothing that would be missed.
        """
        if math.isnan(value):
            return
        if len(self.series) + self.left_out >= MOST_SAMPLES:
            raise too_many()
        if timestamp_ms is None:
            self.stamped = False
            timestamp_ms = self.now_ms
        series = None
        if spelling is not None:
            series = self.project.spellings(namespace, self.form).get(spelling)
        within = self.now_ms - PAST_MS <= timestamp_ms <= self.now_ms + FUTURE_MS
        if not within or not (value == 0 or SMALLEST <= abs(value) <= LARGEST):
            if self.reason:
                self.left_out += 1
                return
            try:
                check_value(value)
                check_timestamp(timestamp_ms, self.now_ms)
            except HeliometerError as error:
                self._leave_out(name, error.message)
            return
        if series is None:
            try:
                new = name()
            except HeliometerError as error:
                self.leave_out(error.message)
                return
            series = self.project.get(new)
            if spelling is not None and len(spelling) > LONGEST_SPELLING:
                spelling = None
            if series is None or spelling is not None:
                self.names[len(self.series)] = new, spelling
        self.series.append(series)
        self.stamps.append(timestamp_ms)
        self.values.append(value)

    def _leave_out(self, name: Callable[[], Name], why: str) -> None:
        try:
            self.leave_out(f"{shown(name())}: {why}")
        except HeliometerError:
            self.leave_out(why)

    def leave_out(self, reason: str, samples: int = 1) -> None:
        """Count samples that cannot be stored."""
        self.left_out += samples
        self.reason = self.reason or reason

    async def store(self, metrics: Metrics, columns: Columns, body: bytes, where: str) -> None:
        """Have it stored; of new series that are too many, what can be. ``body`` and ``where`` it
        goes to tell a repetition."""
        once = body if self.stamped else None
        samples, why = await metrics.push(self.project, columns, once, where)
        if samples:
            self.leave_out(why, samples)

    def columns(self) -> Columns:
        """What can be stored."""
        return Columns(
            self.series,
            self.names,
            None,
            np.array(self.stamps, dtype=np.int64),
            np.array(self.values, dtype=np.float64),
            self.form,
        )

    @property
    def complaint(self) -> str:
        """What to tell the sender; empty: everything was taken."""
        if not self.left_out:
            return ""
        samples = "1 sample is" if self.left_out == 1 else f"{self.left_out} samples are"
        return f"{samples} left out, the others are stored; the first: {self.reason}"


def too_many() -> HeliometerError:
    """The refusal of a request that holds more than MOST_SAMPLES."""
    return HeliometerError(
        Code.TOO_LARGE,
        f"There are more than {MOST_SAMPLES} samples in the request.",
        details="Send fewer in one.",
    )
