"""Gathers the samples of a pushed request; those that cannot be stored are left out."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from heliometer.api.push.naming import shown
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.columns import Columns
from heliometer.metrics.series_index import Name, ProjectSeries
from heliometer.metrics.validation import (
    FUTURE_MS,
    LARGEST,
    PAST_MS,
    SMALLEST,
    check_timestamp,
    check_value,
)

MOST_SAMPLES = 100_000
"""Most samples in one request: decoding more would block others for too long."""
LONGEST_SPELLING = 1024
"""A longer spelling, in bytes, is not worth remembering."""


@dataclass(slots=True)
class Intake:
    """Gathers samples for one project.

    ``form`` names how the format spells a series: see ``ProjectSeries.spellings``.
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
    """Why the first sample was left out; empty if none was."""
    stamped: bool = True
    """Whether every sample has a timestamp: only then can a repeated request be recognised."""

    def add(
        self,
        namespace: str,
        spelling: bytes | None,
        name: Callable[[], Name],
        timestamp_ms: int | None,
        value: float,
    ) -> None:
        """Take a sample of the series with that spelling, or else with that name.

        NaN means that there is no value, and is dropped silently. Raises TOO_LARGE.
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
        """Count samples that cannot be stored, and remember the first reason."""
        self.left_out += samples
        self.reason = self.reason or reason

    def columns(self) -> Columns:
        """The samples so far, as columns to store."""
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
        """The message for the sender; empty if nothing was left out."""
        if not self.left_out:
            return ""
        samples = "1 sample is" if self.left_out == 1 else f"{self.left_out} samples are"
        return f"{samples} left out, the others are stored; the first: {self.reason}"


def too_many() -> HeliometerError:
    """The fault for a request with more than MOST_SAMPLES."""
    return HeliometerError(
        Code.TOO_LARGE,
        f"There are more than {MOST_SAMPLES} samples in the request.",
        details="Send fewer in one.",
    )
