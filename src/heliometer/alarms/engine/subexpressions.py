"""The subexpressions of all watched alarms, laid out as arrays and judged in one go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heliometer.alarms.engine.matching import Select
from heliometer.alarms.engine.model import SubexpressionExplained
from heliometer.alarms.engine.truth import (
    AS_BOOL,
    TRUE,
    UNKNOWN,
    Truths,
    is_irreversible,
    judge,
    judge_one,
    value_of,
    values,
)
from heliometer.alarms.engine.watched_metrics import Watch, WatchedMetrics, depth_of
from heliometer.alarms.engine.windows import Touched, Windows
from heliometer.alarms.expression import Subexpression
from heliometer.alarms.model import Finding, WindowValue
from heliometer.metrics.model import Float64s, Int64s
from heliometer.metrics.statistics import MINUTE_MS


@dataclass(slots=True)
class _Leaf:
    """A subexpression of one alarm."""

    expression: Subexpression
    watch: Watch
    alarm: int
    text: str


@dataclass(slots=True)
class _Group:
    """Subexpressions that differ only in metric and threshold, and are judged in one go."""

    windows: Windows
    like: Subexpression
    leaves: dict[int, _Leaf] = field(default_factory=dict)
    numbers: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    columns: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    watches: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    thresholds: Float64s = field(default_factory=lambda: np.empty(0))
    stale: bool = True

    def arrange(self) -> None:
        """Lay the leaves out as arrays."""
        if self.stale:
            leaves = self.leaves.values()
            self.numbers = np.fromiter(self.leaves, np.int64, len(leaves))
            self.columns = np.fromiter((e.watch.column for e in leaves), np.int64, len(leaves))
            self.watches = np.fromiter((e.watch.number for e in leaves), np.int64, len(leaves))
            self.thresholds = np.fromiter((e.expression.threshold for e in leaves), float)
            self.stale = False


class Subexpressions:
    """Subexpressions by number. Alarms are identified by number, too."""

    def __init__(self, metrics: WatchedMetrics) -> None:
        self._metrics = metrics
        self._leaves: dict[int, _Leaf] = {}
        self._groups: dict[tuple[object, ...], _Group] = {}
        self._of_watch: dict[int, set[int]] = {}
        self._free: list[int] = []
        self._next = 0
        self.blind: list[int] = []
        """Minutes that were not seen whole, within the deepest windows."""
        self.repeated: list[int] = []
        """Minutes whose windows may hold the measurements of two times that the clock showed
        them."""
        # By number of the watch: the values in a batch that may make an alarm certain.
        self._trips_above = np.zeros(0)
        self._trips_below = np.zeros(0)

    def add(self, project_id: str, each: Subexpression, alarm: int, select: Select) -> int:
        """Add a subexpression of an alarm; returns its number."""
        depth = depth_of(each)
        watch = self._metrics.acquire(project_id, each.metric, depth, select)
        if self._free:
            number = self._free.pop()
        else:
            number = self._next
            self._next += 1
        leaf = self._leaves[number] = _Leaf(each, watch, alarm, str(each))
        self._of_watch.setdefault(watch.number, set()).add(number)
        group = self._groups.setdefault(_group_key(each, depth), _Group(watch.windows, each))
        group.leaves[number] = leaf
        group.stale = True
        self._set_trips(watch.number)
        return number

    def remove(self, number: int) -> None:
        """Remove a subexpression; its number may be reused."""
        leaf = self._leaves.pop(number)
        key = _group_key(leaf.expression, leaf.watch.windows.depth)
        group = self._groups[key]
        del group.leaves[number]
        group.stale = True
        if not group.leaves:
            del self._groups[key]
        self._free.append(number)
        self._of_watch[leaf.watch.number].discard(number)
        if self._metrics.release(leaf.watch):
            del self._of_watch[leaf.watch.number]
        else:
            self._set_trips(leaf.watch.number)

    def alarms_of(self, watches: Iterable[int]) -> set[int]:
        """The alarms that use these watches."""
        return {self._leaves[leaf].alarm for watch in watches for leaf in self._of_watch[watch]}

    def forget_blindness(self, minute: int) -> None:
        """Drop the blind and the repeated minutes that no window reaches back to at ``minute``."""
        oldest = minute - self._metrics.deepest
        self.blind = [m for m in self.blind if m > oldest]
        self.repeated = [m for m in self.repeated if m > oldest]

    # -- judging ------------------------------------------------------------------------------

    def truths(self, minute: int, *, certain: bool = False) -> Truths:
        """The truth of each subexpression by number. ``certain``: true only where no further
        measurement can change it, else unknown."""
        result = np.full(self._next, UNKNOWN, np.int8)
        for group in self._groups.values():
            if certain and not is_irreversible(group.like):
                continue
            group.arrange()
            truth = self._judge(group, minute)
            if certain:
                truth[truth != TRUE] = UNKNOWN
            result[group.numbers] = truth
        return result

    def excused(self, minute: int) -> NDArray[np.bool_] | None:
        """By number of the subexpression: whether it may be unknown for want of what could not be
        seen, rather than because a series is silent. ``None``: none is."""
        awaited = self._metrics.awaited
        if not (self.blind or self.repeated or awaited.any()):
            return None
        result = np.zeros(self._next, np.bool_)
        for group in self._groups.values():
            group.arrange()
            like = group.like
            length = like.period_s // 60
            excused = awaited[group.watches]
            if self._is_doubtful(minute - length, length):
                excused = np.ones(len(group.columns), np.bool_)
            elif self._is_doubtful(minute - like.times * length, like.times * length):
                function = like.effective_function
                _, has_data = values(
                    group.windows, group.columns, function, minute - length, length
                )
                excused = excused | has_data
            result[group.numbers] = excused
        return result

    def truth_if_certain(self, number: int, minute: int) -> Truths:
        """As ``truths`` with ``certain``, for a single subexpression."""
        if is_irreversible(self._leaves[number].expression):
            truth = self.find(number, minute)[1]
            if truth == TRUE:
                return np.array([TRUE], np.int8)
        return np.array([UNKNOWN], np.int8)

    def find(self, number: int, minute: int) -> tuple[Finding, int]:
        """The values of one subexpression's windows, and its truth."""
        leaf = self._leaves[number]
        like, watch = leaf.expression, leaf.watch
        length = like.period_s // 60
        seen = bool(self._metrics.seen[watch.number])
        found: list[WindowValue] = []
        truth = TRUE
        for k in range(like.times, 0, -1):
            first = minute - k * length
            value, has_data = value_of(
                watch.windows, watch.column, like.effective_function, first, length
            )
            known = seen if like.function == "count" else has_data
            blind = _reach(self.blind, first, length) or bool(self._metrics.awaited[watch.number])
            judged = judge_one(like, value, known=known, blind=blind)
            truth = min(truth, UNKNOWN if _reach(self.repeated, first, length) else judged)
            found.append(
                WindowValue(
                    first * MINUTE_MS, (first + length) * MINUTE_MS, value if known else None
                )
            )
        finding = Finding(
            leaf.text,
            AS_BOOL[truth],
            like.effective_function,
            like.operator,
            like.threshold,
            tuple(found),
            len(self._metrics.matched(watch)),
        )
        return finding, truth

    def explain(self, number: int, minute: int) -> tuple[SubexpressionExplained, int]:
        """One subexpression with its series and newest measurement, and its truth."""
        watch = self._leaves[number].watch
        finding, truth = self.find(number, minute)
        series = tuple(self._metrics.matched(watch).values())
        last_ms = int(watch.windows.last_ms[watch.column])
        last = float(watch.windows.last[watch.column])
        return SubexpressionExplained(finding, series, last_ms, last), truth

    def newest_value(self, number: int, minute: int) -> float | None:
        """The value of the newest window of one subexpression."""
        leaf = self._leaves[number]
        like, watch = leaf.expression, leaf.watch
        length = like.period_s // 60
        value, has_data = value_of(
            watch.windows, watch.column, like.effective_function, minute - length, length
        )
        seen = like.function == "count" and self._metrics.seen[watch.number]
        return value if has_data or seen else None

    def _judge(self, group: _Group, minute: int) -> Truths:
        like = group.like
        length = like.period_s // 60
        seen = self._metrics.seen[group.watches]
        awaited = self._metrics.awaited[group.watches]
        everywhere = np.ones(len(group.columns), np.bool_)
        truth: Truths = np.full(len(group.columns), TRUE, np.int8)
        for k in range(1, like.times + 1):
            first = minute - k * length
            value, has_data = values(
                group.windows, group.columns, like.effective_function, first, length
            )
            blind = awaited if not _reach(self.blind, first, length) else everywhere
            judged = judge(like, value, has_data, group.thresholds, seen=seen, blind=blind)
            if _reach(self.repeated, first, length):
                judged[:] = UNKNOWN
            np.minimum(truth, judged, out=truth)
        return truth

    def _is_doubtful(self, first: int, length: int) -> bool:
        return _reach(self.blind, first, length) or _reach(self.repeated, first, length)

    # -- at once ------------------------------------------------------------------------------

    def crossed(self, touched: Sequence[tuple[Windows, Touched]]) -> set[int]:
        """Alarms with a threshold that a batch crossed, and which may be certain now."""
        found: set[int] = set()
        for windows, each in touched:
            watches = windows.owner[each.column]
            trips = (each.high >= self._trips_above[watches]) | (
                each.low <= self._trips_below[watches]
            )
            if trips.any():
                found |= self._crossed(watches[trips], each.high[trips], each.low[trips])
        return found

    def _crossed(self, watches: Int64s, high: Float64s, low: Float64s) -> set[int]:
        order = np.argsort(watches, kind="stable")
        numbers, first = np.unique(watches[order], return_index=True)
        highest = np.maximum.reduceat(high[order], first)
        lowest = np.minimum.reduceat(low[order], first)
        found: set[int] = set()
        for number, above, below in zip(
            numbers.tolist(), highest.tolist(), lowest.tolist(), strict=True
        ):
            leaves = self._of_watch[number]
            found.update(
                leaf.alarm
                for leaf in map(self._leaves.__getitem__, leaves)
                if len(leaves) == 1 or _crosses(leaf.expression, above, below)
            )
        return found

    def _set_trips(self, watch: int) -> None:
        """The values from which on a batch may make an alarm of the watch certain."""
        if watch >= len(self._trips_above):
            more = (0, max(64, len(self._trips_above), watch + 1 - len(self._trips_above)))
            self._trips_above = np.pad(self._trips_above, more)
            self._trips_below = np.pad(self._trips_below, more)
        above, below = np.inf, -np.inf
        for number in self._of_watch[watch]:
            each = self._leaves[number].expression
            if not is_irreversible(each):
                continue
            if each.effective_function == "count":
                above = -np.inf  # any measurement may decide it
            elif each.effective_function == "max":
                above = min(above, each.threshold)
            else:
                below = max(below, each.threshold)
        self._trips_above[watch], self._trips_below[watch] = above, below


def _reach(minutes: Sequence[int], first: int, length: int) -> bool:
    """Whether any of the minutes is in the window."""
    return any(first <= minute < first + length for minute in minutes)


def _crosses(each: Subexpression, high: float, low: float) -> bool:
    """Whether measurements with these extremes may make it true for good."""
    if not is_irreversible(each):
        return False
    function = each.effective_function
    return (
        function == "count"
        or (function == "max" and high >= each.threshold)
        or (function == "min" and low <= each.threshold)
    )


def _group_key(each: Subexpression, depth: int) -> tuple[object, ...]:
    return depth, each.function, each.operator, each.period_s, each.times
