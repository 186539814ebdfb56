"""The metrics that alarms use: the series that feed them, and where their windows are."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from heliometer.alarms.engine.matching import Matching, Select
from heliometer.alarms.engine.model import Need
from heliometer.alarms.engine.windows import AHEAD, Touched, Windows
from heliometer.alarms.expression import Metric, Subexpression
from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.statistics import MINUTE_MS

CAUGHT_UP = 15
"""Minutes that may be evaluated late; windows reach back so much farther."""
SMALLEST_DEPTH = 32


def depth_of(subexpression: Subexpression) -> int:
    """Minutes of windows that are kept for a subexpression."""
    depth = SMALLEST_DEPTH
    needed = subexpression.period_s // 60 * subexpression.times + AHEAD + CAUGHT_UP + 1
    while depth < needed:
        depth *= 2
    return depth


@dataclass(slots=True)
class Watch:
    """One metric of one project at one depth, with the place of its windows."""

    number: int
    windows: Windows
    column: int
    users: int = 0
    """The number of subexpressions that use it."""


class WatchedMetrics:
    """Keeps the windows of each watched metric once, however many alarms use it."""

    def __init__(self) -> None:
        self._head = 0
        self._matching = Matching()
        self._rings: dict[int, Windows] = {}
        self._by_key: dict[tuple[str, Metric, int], Watch] = {}
        self._by_number: list[Watch | None] = []
        self._free: list[int] = []
        self._minutes: Counter[str] = Counter()
        """Minutes of windows that are kept for each project."""
        self._filling: set[int] = set()
        self._depth_of = np.zeros(0, np.int64)
        self._column_of = np.zeros(0, np.int64)
        self.seen = np.zeros(0, np.bool_)
        """Whether any series ever matched the metric, by number of the watch."""
        self.awaited = np.zeros(0, np.bool_)
        """Whether nothing has arrived since the clock was set, by number of the watch."""
        self._awaited_from_ms = 0

    @property
    def deepest(self) -> int:
        """Minutes of the deepest windows; 0 if there are none."""
        return max(self._rings, default=0)

    @property
    def filling(self) -> Iterable[int]:
        """Numbers of the watches whose windows are not filled from the store yet."""
        return self._filling

    def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows kept for a project's alarms; each takes 32 bytes."""
        return self._minutes[project_id]

    def matched(self, watch: Watch) -> Mapping[int, Series]:
        """The series that feed the watch, by id."""
        return self._matching.matched(watch.number)

    # -- watching -----------------------------------------------------------------------------

    def acquire(self, project_id: str, metric: Metric, depth: int, select: Select) -> Watch:
        """The watch of a metric, with one more user. A new watch must be filled before it is
        judged."""
        watch = self._by_key.get((project_id, metric, depth))
        if watch is None:
            watch = self._add(project_id, metric, depth, select)
        watch.users += 1
        return watch

    def release(self, watch: Watch) -> bool:
        """Remove one user; returns whether it was the last one, and the watch is gone."""
        watch.users -= 1
        if watch.users:
            return False
        project_id, metric = self._matching.watched(watch.number)
        del self._by_key[project_id, metric, watch.windows.depth]
        self._minutes[project_id] -= watch.windows.depth
        self._matching.remove(watch.number)
        watch.windows.free_column(watch.column)
        self._by_number[watch.number] = None
        self._filling.discard(watch.number)
        self._free.append(watch.number)
        return True

    def know(self, series: Iterable[Series]) -> None:
        """Match new series against the watched metrics."""
        self.seen[self._matching.know(series)] = True

    def _add(self, project_id: str, metric: Metric, depth: int, select: Select) -> Watch:
        windows = self._rings.setdefault(depth, Windows(depth, self._head))
        if self._free:
            number = self._free.pop()
        else:
            number = len(self._by_number)
            self._by_number.append(None)
        if number >= len(self.seen):
            more = (0, max(64, len(self.seen)))
            self.seen = np.pad(self.seen, more)
            self.awaited = np.pad(self.awaited, more)
            self._depth_of = np.pad(self._depth_of, more)
            self._column_of = np.pad(self._column_of, more)
        watch = Watch(number, windows, windows.new_column(number))
        self._depth_of[number], self._column_of[number] = depth, watch.column
        self._by_key[project_id, metric, depth] = watch
        self._by_number[number] = watch
        self._minutes[project_id] += depth
        self.awaited[number] = False
        self.seen[number] = len(self._matching.add(number, project_id, metric, select)) > 0
        self._filling.add(number)
        return watch

    # -- measurements -------------------------------------------------------------------------

    def wait_for_all(self, from_ms: int) -> None:
        """Note for every watch that none of its measurements from then on has arrived."""
        self.awaited[:] = True
        self._awaited_from_ms = from_ms

    def wait_for_none(self) -> None:
        """Wait no longer."""
        self.awaited[:] = False

    def advance(self, now_ms: int) -> None:
        """Make room for every minute that a measurement may lie in now."""
        head = now_ms // MINUTE_MS + AHEAD
        if head > self._head:
            self._head = head
            for windows in self._rings.values():
                windows.advance(head)

    def enter(self, batch: Batch) -> list[tuple[Windows, Touched]]:
        """Enter measurements into all windows that they belong to; returns what changed."""
        at, watch = self._matching.lookup(batch.series)
        if self.awaited.any():
            self.awaited[watch[batch.timestamp[at] >= self._awaited_from_ms]] = False
        return self._enter(batch, at, watch)

    def needs(self) -> list[Need]:
        """The stored measurements that new windows need."""
        by_depth: dict[int, list[Int64s]] = {}
        for number in self._filling:
            watch = self._by_number[number]
            assert watch is not None
            series = self._matching.matched(number)
            ids = np.fromiter(series, np.int64, len(series))
            by_depth.setdefault(watch.windows.depth, []).append(ids)
        return [
            Need(np.unique(np.concatenate(ids)), (self._head - depth + 1) * MINUTE_MS)
            for depth, ids in by_depth.items()
        ]

    def fill(self, batch: Batch) -> None:
        """Enter stored measurements into the windows that lack them, and into no others."""
        at, watch = self._matching.lookup(batch.series)
        wanted = np.zeros(len(self._by_number), np.bool_)
        wanted[list(self._filling)] = True
        keep = wanted[watch]
        self._enter(batch, at[keep], watch[keep])

    def filled(self) -> None:
        """Note that every window is filled."""
        self._filling.clear()

    def _enter(self, batch: Batch, at: Int64s, watch: Int64s) -> list[tuple[Windows, Touched]]:
        """``at``: positions in the batch; ``watch``: the watch that each of them feeds."""
        touched: list[tuple[Windows, Touched]] = []
        if not len(at):
            return touched
        depth = self._depth_of[watch]
        for windows in self._rings.values():
            mine = depth == windows.depth
            if mine.any():
                rows = at[mine]
                found = windows.take(
                    self._column_of[watch[mine]], batch.timestamp[rows], batch.value[rows]
                )
                if found is not None:
                    touched.append((windows, found))
        return touched
