"""What a benchmark found: figures with their targets, and the table of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Options:
    """How to run."""

    folder: Path
    """For the data; on the disk that is to be measured."""
    quick: bool
    """A tenth of the work or less: shows that it runs, and the order of magnitude."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def target(self) -> str:
        """The target in words; empty where there is none."""
        bounds = [("≥", self.at_least), ("≤", self.at_most)]
        return " ".join(f"{sign} {_number(bound)}" for sign, bound in bounds if bound is not None)

    @property
    def result(self) -> str:
        """``met`` or ``MISSED``; empty where there is no target."""
        if not self.target:
            return ""
        low = self.at_least is None or self.value >= self.at_least
        high = self.at_most is None or self.value <= self.at_most
        return "met" if low and high else "MISSED"

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        return {**asdict(self), "result": self.result}


def latencies(
    name: str,
    seconds: Sequence[float],
    *,
    p50_at_most: float | None = None,
    p99_at_most: float | None = None,
    note: str = "",
) -> list[Figure]:
    """The median and the 99th percentile, in milliseconds."""
    p50, p99 = np.percentile(np.asarray(seconds) * 1000, [50, 99])
    return [
        Figure(f"{name}, p50", float(p50), "ms", at_most=p50_at_most, note=note),
        Figure(f"{name}, p99", float(p99), "ms", at_most=p99_at_most),
    ]


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned columns, with the notes below each."""
    heads = ("figure", "measured", "unit", "target", "result")
    rows = [(f.name, _number(f.value), f.unit, f.target, f.result) for f in figures]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if i == 1 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    lines = [line(heads), "  ".join("-" * width for width in widths)]
    for figure, row in zip(figures, rows, strict=True):
        lines.append(line(row))
        if figure.note:
            lines.append(f"    {figure.note}")
    return "\n".join(lines)


def _number(value: float) -> str:
    """A number with a sensible number of digits and thin groups of thousands."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if value == int(value):
        return str(int(value))
    return f"{value:.3g}"
