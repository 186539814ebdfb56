"""Statistics by the minute, as arrays: a row for each minute, a column for each watched metric."""

from dataclasses import dataclass

import numpy as np

from heliometer.metrics.model import Float64s, Int64s
from heliometer.metrics.statistics import MINUTE_MS
from heliometer.metrics.validation import FUTURE_MS

AHEAD = FUTURE_MS // MINUTE_MS + 1
"""Minutes beyond the present one that a measurement may lie in."""


@dataclass(frozen=True, slots=True)
class Touched:
    """The columns that a batch changed, once for each minute, with the batch's extremes there."""

    column: Int64s
    low: Float64s
    high: Float64s


class Windows:
    """A ring of minutes for watches of about the same depth. Minute ``m`` lies in row ``m %
    depth``; the ring holds the minutes ``head - depth + 1`` to ``head``. The four statistics
    suffice for every function."""

    def __init__(self, depth: int, head: int) -> None:
        self.depth = depth
        self.head = head
        self.count = np.zeros((depth, 4), np.int64)
        self.total = np.zeros((depth, 4))
        self.low = np.full((depth, 4), np.inf)
        self.high = np.full((depth, 4), -np.inf)
        self.owner = np.full(4, -1, np.int64)
        """The number of each column's watch."""
        self.last = np.zeros(4)
        """The value of each column's newest measurement."""
        self.last_ms = np.zeros(4, np.int64)
        self._free: list[int] = [3, 2, 1, 0]

    def new_column(self, owner: int) -> int:
        """Reserve an empty column for a watch; returns its position."""
        if not self._free:
            size = self.count.shape[1]
            for name, empty in _EMPTY.items():
                old = getattr(self, name)
                new = np.full((*old.shape[:-1], 2 * size), empty, old.dtype)
                new[..., :size] = old
                setattr(self, name, new)
            self._free = list(range(2 * size - 1, size - 1, -1))
        column = self._free.pop()
        self.owner[column] = owner
        return column

    def free_column(self, column: int) -> None:
        """Release a column and clear it."""
        for name, empty in _EMPTY.items():
            getattr(self, name)[..., column] = empty
        self._free.append(column)

    def advance(self, head: int) -> None:
        """Make room for minutes up to ``head``."""
        if head <= self.head:
            return
        new = np.arange(max(self.head + 1, head - self.depth + 1), head + 1) % self.depth
        self.count[new] = 0
        self.total[new] = 0
        self.low[new] = np.inf
        self.high[new] = -np.inf
        self.head = head

    def take(self, column: Int64s, timestamp: Int64s, value: Float64s) -> Touched | None:
        """Enter measurements in the order in which they arrived; those too old are ignored."""
        minute = timestamp // MINUTE_MS
        inside = (minute > self.head - self.depth) & (minute <= self.head)
        if not inside.all():
            column, timestamp, value = column[inside], timestamp[inside], value[inside]
            minute = minute[inside]
        if not len(column):
            return None
        width = self.count.shape[1]
        cell = minute % self.depth * width + column
        order = np.lexsort((timestamp, cell))
        cell, timestamp, value = cell[order], timestamp[order], value[order]
        first = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
        cell = cell[first]
        low, high = np.minimum.reduceat(value, first), np.maximum.reduceat(value, first)
        end = np.r_[first[1:], len(value)]
        flat = self.count.reshape(-1)
        flat[cell] += end - first
        with np.errstate(over="ignore", invalid="ignore"):
            self.total.reshape(-1)[cell] += np.add.reduceat(value, first)
        flat_low, flat_high = self.low.reshape(-1), self.high.reshape(-1)
        flat_low[cell] = np.minimum(flat_low[cell], low)
        flat_high[cell] = np.maximum(flat_high[cell], high)
        columns = cell % width
        # By minute, so that the newest of a column's minutes is written last.
        for at in _in_order(cell // width, self.head, self.depth):
            newest = end[at] - 1
            where = columns[at]
            newer = timestamp[newest] >= self.last_ms[where]
            self.last[where[newer]] = value[newest[newer]]
            self.last_ms[where[newer]] = timestamp[newest[newer]]
        return Touched(columns, low, high)


_EMPTY = {
    "count": 0, "total": 0.0, "low": np.inf, "high": -np.inf, "owner": -1, "last": 0.0,
    "last_ms": 0,
}  # fmt: skip


def _in_order(row: Int64s, head: int, depth: int) -> list[Int64s]:
    """Positions grouped by minute, oldest first; ``row`` is the row of each in the ring."""
    age = (head - row) % depth
    return [np.flatnonzero(age == a) for a in np.unique(age)[::-1]]
