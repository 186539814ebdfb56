"""Which watched metrics each series feeds: computed once per series, looked up for whole
batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from heliometer.alarms.expression import Metric
from heliometer.metrics.model import Int64s, Series

Select = Callable[[str, str, Mapping[str, str]], Sequence[Series]]
"""The known series of a project and namespace that have at least the given dimensions."""

_Pair = tuple[str, str] | None


class Matching:
    """Links series to watches, both identified by number. The links lie in one flat array: those of
    series ``s`` are ``targets[start[s] : start[s] + number[s]]``. A series that gains a watch moves
    to the end of the array, which is compacted once more than half of it is unused."""

    def __init__(self) -> None:
        self._start = np.zeros(1024, np.int64)
        self._number = np.zeros(1024, np.int64)
        self._targets = np.zeros(1024, np.int64)
        self._used = 0
        self._linked = 0
        self._watches: dict[int, tuple[str, Metric, _Pair]] = {}
        self._series: dict[int, dict[int, Series]] = {}
        """The series that each watch matches."""
        self._index: dict[tuple[str, str], dict[_Pair, set[int]]] = {}
        """Watches of a project and namespace, each filed under the rarest of its dimension pairs,
        so that a new series is compared with few watches."""

    def add(self, watch: int, project_id: str, metric: Metric, select: Select) -> Int64s:
        """Match a new watch; returns the ids of its series."""
        buckets = self._index.setdefault((project_id, metric.namespace), {})
        pair: _Pair = min(metric.dimensions, key=lambda p: len(buckets.get(p, ())), default=None)
        buckets.setdefault(pair, set()).add(watch)
        self._watches[watch] = project_id, metric, pair
        found = {s.id: s for s in select(project_id, metric.namespace, dict(metric.dimensions))}
        self._series[watch] = found
        for series_id in found:
            self._link(series_id, watch)
        return np.fromiter(found, np.int64, len(found))

    def remove(self, watch: int) -> None:
        """Stop matching series against a watch."""
        project_id, metric, pair = self._watches.pop(watch)
        buckets = self._index[project_id, metric.namespace]
        buckets[pair].discard(watch)
        if not buckets[pair]:
            del buckets[pair]
        if not buckets:
            del self._index[project_id, metric.namespace]
        for series_id in self._series.pop(watch):
            self._unlink(series_id, watch)

    def know(self, series: Iterable[Series]) -> list[int]:
        """Match new series; returns the watches that gained one. Series known already are
        ignored."""
        touched: list[int] = []
        for each in series:
            buckets = self._index.get((each.project_id, each.namespace))
            if not buckets:
                continue
            has = set(each.dimensions)
            for pair in (None, *each.dimensions):
                for watch in buckets.get(pair, ()):
                    found = self._series[watch]
                    if each.id not in found and has.issuperset(self._watches[watch][1].dimensions):
                        found[each.id] = each
                        self._link(each.id, watch)
                        touched.append(watch)
        return touched

    def watched(self, watch: int) -> tuple[str, Metric]:
        """The project and metric of a watch."""
        project_id, metric, _ = self._watches[watch]
        return project_id, metric

    def matched(self, watch: int) -> Mapping[int, Series]:
        """The series of a watch by id."""
        return self._series[watch]

    def lookup(self, series: Int64s) -> tuple[Int64s, Int64s]:
        """Positions in a batch of series, and the watch that each feeds: one pair for each link."""
        known = np.minimum(series, len(self._number) - 1)
        number = np.where(known == series, self._number[known], 0)
        at = np.flatnonzero(number)
        if not len(at):
            return at, at
        number, start = number[at], self._start[known[at]]
        if number.max() == 1:
            return at, self._targets[start]
        ends = np.cumsum(number)
        steps = np.arange(ends[-1]) - np.repeat(ends - number, number)
        return np.repeat(at, number), self._targets[np.repeat(start, number) + steps]

    def _link(self, series_id: int, watch: int) -> None:
        if series_id >= len(self._start):
            size = max(series_id + 1, 2 * len(self._start))
            self._start = np.pad(self._start, (0, size - len(self._start)))
            self._number = np.pad(self._number, (0, size - len(self._number)))
        first, number = int(self._start[series_id]), int(self._number[series_id])
        at_end = first + number == self._used
        if self._used + number + 1 > len(self._targets):
            if self._linked + 1 < len(self._targets) // 2:
                self._compact()
                first, at_end = int(self._start[series_id]), False
            else:
                self._targets = np.pad(self._targets, (0, len(self._targets) + number + 1))
        if not (number and at_end):
            self._targets[self._used : self._used + number] = self._targets[first : first + number]
            self._start[series_id] = self._used
            self._used += number
        self._targets[self._used] = watch
        self._used += 1
        self._number[series_id] = number + 1
        self._linked += 1

    def _unlink(self, series_id: int, watch: int) -> None:
        first, number = int(self._start[series_id]), int(self._number[series_id])
        links = self._targets[first : first + number]
        kept = links[links != watch]
        self._targets[first : first + len(kept)] = kept
        self._number[series_id] = len(kept)
        self._linked -= number - len(kept)

    def _compact(self) -> None:
        at = np.flatnonzero(self._number)
        number = self._number[at]
        ends = np.cumsum(number)
        steps = np.arange(self._linked) - np.repeat(ends - number, number)
        self._targets[: self._linked] = self._targets[np.repeat(self._start[at], number) + steps]
        self._start[at] = ends - number
        self._used = self._linked
