"""Requests with measurements, as columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from heliometer.metrics.model import Float64s, Int64s
from heliometer.metrics.series_index import Name, ProjectSeries


@dataclass(slots=True)
class Columns:
    """A decoded and validated request, column by column.

    ``series`` has the series id of each metric in the request, or ``None`` where the spelling is
    new; ``names`` has the name of these by position, and the spelling to remember. ``repeats`` has
    the number of measurements of each metric, unless all have one.
    """

    series: list[int | None]
    names: dict[int, tuple[Name, bytes | None]]
    repeats: list[int] | None
    timestamp: Int64s
    value: Float64s
    form: str = ""
    """The form of the spellings: see ``ProjectSeries.spellings``."""


class Measured(Protocol):
    """One value that a collector read."""

    @property
    def namespace(self) -> str: ...
    @property
    def dimensions(self) -> Mapping[str, str]: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def value(self) -> float: ...


def of_known(columns: Columns, project: ProjectSeries) -> Columns:
    """The measurements of series that the project has already."""
    kept: list[bool] = []
    series: list[int | None] = []
    for row, id_ in enumerate(columns.series):
        if id_ is None and row in columns.names:
            id_ = project.get(columns.names[row][0])
        kept.append(id_ is not None)
        if id_ is not None:
            series.append(id_)
    repeats = columns.repeats
    rows = np.array(kept if repeats is None else np.repeat(kept, repeats), dtype=bool)
    left = None if repeats is None else [n for n, keep in zip(repeats, kept, strict=True) if keep]
    return Columns(series, {}, left, columns.timestamp[rows], columns.value[rows], columns.form)
