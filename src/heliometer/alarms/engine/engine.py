"""The alarm engine: every watched metric and alarm in memory, evaluated as arrays.

Pure: it knows no clock, no store and no other thread; every method is given the time. A minute is
numbered by ``ms // 60000``; evaluating minute ``e`` looks at windows that end where it begins.
"""

import zlib
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from heliometer.alarms.engine.matching import Matching, Select
from heliometer.alarms.engine.truth import (
    AS_BOOL,
    FALSE,
    TRUE,
    UNKNOWN,
    Shape,
    Truths,
    combine,
    is_irreversible,
    judge,
    judge_one,
    shape,
    value_of,
    values,
)
from heliometer.alarms.engine.windows import AHEAD, MINUTE_MS, Touched, Windows
from heliometer.alarms.expression import (
    Expression,
    Metric,
    Subexpression,
    longest_period_s,
    subexpressions,
)
from heliometer.alarms.model import Finding, State, Transition, WindowValue
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Float64s, Int64s, Series

CAUGHT_UP = 15
"""Minutes that may be evaluated late: the windows reach back as much farther."""
SMALLEST_DEPTH = 32
FEW = 64
"""Alarms that are looked at one by one when measurements arrive; more are evaluated together."""
STATES = (State.UNDETERMINED, State.OK, State.ALARM, State.FLAPPING)
NUMBER = {state: i for i, state in enumerate(STATES)}
_UNDETERMINED, _OK, _ALARM, _FLAPPING = range(4)


@dataclass(frozen=True, slots=True)
class Rules:
    """How the engine behaves, from the settings."""

    at_once: bool = True
    flapping_changes: int = 4
    flapping_span_s: int = 600


@dataclass(frozen=True, slots=True)
class Watched:
    """An alarm to be watched, and what is known of its past."""

    id: str
    project_id: str
    expression: Expression
    state: State = State.UNDETERMINED
    changes: tuple[int, ...] = ()
    """Times of its latest changes in milliseconds, oldest first: whether it flaps."""


@dataclass(frozen=True, slots=True)
class Need:
    """Stored measurements that windows must be filled with before they can be judged."""

    series: Int64s
    since_ms: int


@dataclass(frozen=True, slots=True)
class PartExplained:
    """One subexpression now."""

    finding: Finding
    series: tuple[Series, ...]
    last_ms: int
    """Time of the newest measurement; 0: there was none lately."""
    last_value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an alarm is in its state."""

    minute_ms: int
    state: State
    truth: bool | None
    unknown: int
    """Evaluations in a row in which the expression was unknown."""
    patience: int
    """As many make the alarm UNDETERMINED."""
    parts: tuple[PartExplained, ...]


@dataclass(slots=True)
class _Watch:
    """One metric of one project, and where its windows are."""

    number: int
    windows: Windows
    column: int
    users: int = 0


@dataclass(slots=True)
class _Part:
    """A subexpression of one alarm."""

    expression: Subexpression
    watch: _Watch
    alarm: int
    text: str


@dataclass(slots=True)
class _Kind:
    """Subexpressions that differ only in metric and threshold: judged in one go."""

    windows: Windows
    like: Subexpression
    parts: dict[int, _Part] = field(default_factory=dict)
    numbers: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    columns: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    watches: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    thresholds: Float64s = field(default_factory=lambda: np.empty(0))
    stale: bool = True

    def arrange(self) -> None:
        """Lay the parts out as arrays."""
        if self.stale:
            parts = self.parts.values()
            self.numbers = np.fromiter(self.parts, np.int64, len(parts))
            self.columns = np.fromiter((p.watch.column for p in parts), np.int64, len(parts))
            self.watches = np.fromiter((p.watch.number for p in parts), np.int64, len(parts))
            self.thresholds = np.fromiter((p.expression.threshold for p in parts), float)
            self.stale = False


@dataclass(slots=True)
class _Form:
    """Alarms whose trees have one shape: combined in one go."""

    shape: Shape
    alarms: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """For each alarm the numbers of its parts."""
    numbers: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    leaves: Int64s = field(default_factory=lambda: np.empty((0, 0), np.int64))
    stale: bool = True

    def arrange(self) -> None:
        """Lay the alarms out as arrays; ``leaves`` has one row a leaf."""
        if self.stale:
            self.numbers = np.fromiter(self.alarms, np.int64, len(self.alarms))
            self.leaves = (
                np.array(list(self.alarms.values()), np.int64).reshape(len(self.alarms), -1).T
            )
            self.stale = False


@dataclass(slots=True)
class _Alarm:
    watched: Watched
    number: int
    form: _Form
    parts: tuple[int, ...]
    changes: deque[int]


class Engine:
    """Watches alarms. Used from one thread at a time."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._head = 0
        self._matching = Matching()
        self._rings: dict[int, Windows] = {}
        self._watches: dict[tuple[str, Metric, int], _Watch] = {}
        self._watch_of: list[_Watch | None] = []
        self._free_watches: list[int] = []
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._forms: dict[Shape, _Form] = {}
        self._parts: dict[int, _Part] = {}
        self._alarms: dict[str, _Alarm] = {}
        self._alarm_at: dict[int, _Alarm] = {}
        self._parts_of_watch: dict[int, set[int]] = {}
        self._minutes: Counter[str] = Counter()
        """Minutes of windows that are kept for each project."""
        self._filling: set[int] = set()
        self._flapping: set[int] = set()
        self._blind: list[int] = []
        """Minutes in which the service was away, within the deepest window."""
        self._evaluated = 0
        # By number of the alarm.
        self._state = np.zeros(0, np.int8)
        self._unknown = np.zeros(0, np.int64)
        self._patience = np.zeros(0, np.int64)
        self._ahead = np.zeros(0, np.int64)
        """The minute for which an alarm went off at once: until then it is not judged again."""
        # By number of the watch: where it lies, and what of a batch may make an alarm certain.
        self._seen = np.zeros(0, np.bool_)
        self._depth_of = np.zeros(0, np.int64)
        self._column_of = np.zeros(0, np.int64)
        self._trips_above = np.zeros(0)
        self._trips_below = np.zeros(0)
        self._numbers: list[int] = []
        self._part_numbers: list[int] = []
        self._next_part = 0

    def __len__(self) -> int:
        return len(self._alarms)

    # -- alarms -------------------------------------------------------------------------------

    def add(self, alarms: Iterable[Watched], select: Select, now_ms: int) -> list[Need]:
        """Watch alarms, each in place of its old self if there is one. Where the expression is the
        same, only the state is taken: what was counted stays.

        Returns which stored measurements the windows that are new need: ``fill`` takes them.
        """
        self._advance(now_ms)
        for watched in alarms:
            old = self._alarms.get(watched.id)
            if old is None:
                self._add(watched, select)
            elif old.watched.expression == watched.expression:
                self._put(old.number, NUMBER[watched.state])
            else:
                self._add(replace(watched, changes=watched.changes or tuple(old.changes)), select)
                self._remove(old)  # not before: windows that both look at are filled already
        by_ring: dict[int, list[Int64s]] = {}
        for number in self._filling:
            watch = self._watch_of[number]
            assert watch is not None
            series = self._matching.matched(number)
            by_ring.setdefault(watch.windows.depth, []).append(
                np.fromiter(series, np.int64, len(series))
            )
        return [
            Need(np.unique(np.concatenate(ids)), (self._head - depth + 1) * MINUTE_MS)
            for depth, ids in by_ring.items()
        ]

    def fill(self, batch: Batch) -> None:
        """Enter stored measurements into the windows that need them, and no others; may be called
        for one part after the other, until ``filled``."""
        at, watch = self._matching.lookup(batch.series)
        wanted = np.zeros(len(self._watch_of), np.bool_)
        wanted[list(self._filling)] = True
        keep = wanted[watch]
        self._enter(batch, at[keep], watch[keep])

    def filled(self) -> None:
        """Everything that was needed is entered."""
        self._filling.clear()

    def give_up_filling(self) -> None:
        """Something could not be read: watch the alarms no longer whose windows lack it. Those
        would be judged by what they do not hold."""
        parts = [p for watch in self._filling for p in self._parts_of_watch[watch]]
        numbers = {self._parts[part].alarm for part in parts}
        self.remove([self._alarm_at[number].watched.id for number in numbers])

    def remove(self, alarm_ids: Iterable[str]) -> None:
        """Watch these no longer; unknown ids are ignored."""
        for alarm_id in alarm_ids:
            alarm = self._alarms.pop(alarm_id, None)
            if alarm is not None:
                self._remove(alarm)

    def know(self, series: Iterable[Series]) -> None:
        """Match series that are new to the watched metrics."""
        self._seen[self._matching.know(series)] = True

    def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows that are kept for a project's alarms; each takes 32 bytes."""
        return self._minutes[project_id]

    # -- measurements -------------------------------------------------------------------------

    def take(self, batch: Batch, now_ms: int) -> list[Transition]:
        """Enter measurements as they arrive; the alarms that went off at once."""
        self._advance(now_ms)
        at, watch = self._matching.lookup(batch.series)
        touched = self._enter(batch, at, watch)
        if not self._rules.at_once:
            return []
        candidates: set[int] = set()
        for windows, each in touched:
            watches = windows.owner[each.column]
            trips = (each.high >= self._trips_above[watches]) | (
                each.low <= self._trips_below[watches]
            )
            if trips.any():
                candidates |= self._crossed(watches[trips], each.high[trips], each.low[trips])
        candidates = {a for a in candidates if self._state[a] not in (_ALARM, _FLAPPING)}
        transitions: list[Transition] = []
        for minute in range(self._evaluated + 1, now_ms // MINUTE_MS + 2):
            if not candidates or not self._evaluated:
                break
            certain = self._certain(candidates, minute)
            transitions += [
                self._change(n, _ALARM, now_ms, minute, at_once=True) for n in sorted(certain)
            ]
            candidates -= certain
        return transitions

    # -- evaluation ---------------------------------------------------------------------------

    def evaluate(self, minute_ms: int, now_ms: int, *, blind: bool = False) -> list[Transition]:
        """Evaluate the windows that ended at ``minute_ms``; nothing if that was done already.

        ``blind``: the service was away in the minute before, so that what is missing proves
        nothing.
        """
        minute = minute_ms // MINUTE_MS
        if minute <= self._evaluated:
            return []
        self._advance(max(now_ms, minute_ms))
        if blind:
            self._blind.append(minute - 1)
        deepest = max(self._rings, default=0)
        self._blind = [m for m in self._blind if m > minute - deepest]
        self._evaluated = minute
        truths = self._truths(minute)
        changed: list[tuple[int, int]] = []
        for form in self._forms.values():
            if not form.alarms:
                continue
            form.arrange()
            truth = combine(form.shape, [truths[row] for row in form.leaves])
            changed += self._step(form.numbers, truth, minute, blind=blind)
        calm = [(n, _ALARM) for n in self._flapping if self._is_calm(n, minute_ms)]
        moved = {n for n, _ in changed}
        changed += [(n, new) for n, new in calm if n not in moved]
        return [self._change(n, new, now_ms, minute) for n, new in sorted(changed)]

    def explain(self, alarm_id: str, minute_ms: int) -> Explanation:
        """Why an alarm is in its state, over the windows that end at ``minute_ms``; raises
        NOT_FOUND for one that is not watched."""
        alarm = self._alarms.get(alarm_id)
        if alarm is None:
            raise HeliometerError(
                Code.NOT_FOUND, "The alarm is not watched.", details="It may be disabled."
            )
        minute = minute_ms // MINUTE_MS
        parts, leaves = [], []
        for number in alarm.parts:
            part = self._parts[number]
            finding, truth = self._find(part, minute)
            leaves.append(np.array([truth], np.int8))
            series = self._matching.matched(part.watch.number)
            windows, column = part.watch.windows, part.watch.column
            parts.append(
                PartExplained(
                    finding,
                    tuple(series.values()),
                    int(windows.last_ms[column]),
                    float(windows.last[column]),
                )
            )
        return Explanation(
            minute_ms,
            STATES[self._state[alarm.number]],
            AS_BOOL[int(combine(alarm.form.shape, leaves)[0])],
            int(self._unknown[alarm.number]),
            int(self._patience[alarm.number]),
            tuple(parts),
        )

    def values_of(self, alarm_id: str, minute_ms: int) -> list[float | None]:
        """The newest window's value of each of an alarm's subexpressions."""
        found: list[float | None] = []
        for number in self._alarms[alarm_id].parts:
            part = self._parts[number]
            minutes = part.expression.period_s // 60
            value, has_data = value_of(
                part.watch.windows,
                part.watch.column,
                part.expression.effective_function,
                minute_ms // MINUTE_MS - minutes,
                minutes,
            )
            seen = part.expression.function == "count" and self._seen[part.watch.number]
            found.append(value if has_data or seen else None)
        return found

    # -- restarts -----------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """What a restart cannot read from the store: how long alarms have been unknown, and when
        the service was away."""
        counting = np.flatnonzero((self._unknown > 0) & (self._state != _UNDETERMINED))
        known = {
            self._alarm_at[n].watched.id: int(self._unknown[n])
            for n in counting.tolist()
            if n in self._alarm_at
        }
        ahead = {
            self._alarm_at[n].watched.id: int(self._ahead[n])
            for n in np.flatnonzero(self._ahead > self._evaluated).tolist()
            if n in self._alarm_at
        }
        document = {"unknown": known, "ahead": ahead, "blind": self._blind}
        return zlib.compress(msgspec.json.encode(document), 1)

    def restore(self, checkpoint: bytes, evaluated_ms: int) -> None:
        """Go on from a checkpoint, after the alarms were added."""
        self._evaluated = evaluated_ms // MINUTE_MS
        if not checkpoint:
            return
        known = msgspec.json.decode(zlib.decompress(checkpoint))
        self._blind = list(known["blind"])
        for alarm_id, unknown in known["unknown"].items():
            alarm = self._alarms.get(alarm_id)
            if alarm is not None:
                self._unknown[alarm.number] = unknown
        for alarm_id, minute in known["ahead"].items():
            alarm = self._alarms.get(alarm_id)
            if alarm is not None:
                self._ahead[alarm.number] = minute

    # -- inside: adding and removing ----------------------------------------------------------

    def _add(self, watched: Watched, select: Select) -> None:
        number = self._numbers.pop() if self._numbers else len(self._alarm_at)
        if number >= len(self._state):
            size = max(64, 2 * len(self._state))
            for name in ("_state", "_unknown", "_patience", "_ahead"):
                old = getattr(self, name)
                setattr(self, name, np.pad(old, (0, size - len(old))))
        form_key = shape(watched.expression)
        form = self._forms.setdefault(form_key, _Form(form_key))
        parts = tuple(
            self._add_part(watched.project_id, each, number, select)
            for each in subexpressions(watched.expression)
        )
        form.alarms[number] = parts
        form.stale = True
        alarm = _Alarm(watched, number, form, parts, deque(watched.changes))
        self._alarms[watched.id] = self._alarm_at[number] = alarm
        self._set_state(number, NUMBER[watched.state])
        self._unknown[number] = self._ahead[number] = 0
        self._patience[number] = max(2, 2 * longest_period_s(watched.expression) // 60)

    def _put(self, number: int, state: int) -> None:
        """Take a state that was not decided here."""
        if self._state[number] != state:
            self._unknown[number] = 0
            self._set_state(number, state)

    def _add_part(self, project_id: str, part: Subexpression, alarm: int, select: Select) -> int:
        depth = depth_of(part)
        watch = self._watch(project_id, part.metric, depth, select)
        if self._part_numbers:
            number = self._part_numbers.pop()
        else:
            number = self._next_part
            self._next_part += 1
        watch.users += 1
        self._parts[number] = _Part(part, watch, alarm, str(part))
        self._parts_of_watch.setdefault(watch.number, set()).add(number)
        kind = self._kinds.setdefault(_kind_of(part, depth), _Kind(watch.windows, part))
        kind.parts[number] = self._parts[number]
        kind.stale = True
        self._set_trips(watch.number)
        return number

    def _remove(self, alarm: _Alarm) -> None:
        del self._alarm_at[alarm.number]
        del alarm.form.alarms[alarm.number]
        alarm.form.stale = True
        self._flapping.discard(alarm.number)
        self._numbers.append(alarm.number)
        for number in alarm.parts:
            self._remove_part(number)

    def _remove_part(self, number: int) -> None:
        part = self._parts.pop(number)
        watch = part.watch
        kind = self._kinds[_kind_of(part.expression, watch.windows.depth)]
        del kind.parts[number]
        kind.stale = True
        if not kind.parts:
            del self._kinds[_kind_of(part.expression, watch.windows.depth)]
        self._part_numbers.append(number)
        self._parts_of_watch[watch.number].discard(number)
        watch.users -= 1
        if watch.users:
            self._set_trips(watch.number)
            return
        del self._parts_of_watch[watch.number]
        project_id, metric = self._matching.watched(watch.number)
        del self._watches[project_id, metric, watch.windows.depth]
        self._minutes[project_id] -= watch.windows.depth
        self._matching.remove(watch.number)
        watch.windows.free_column(watch.column)
        self._watch_of[watch.number] = None
        self._filling.discard(watch.number)
        self._free_watches.append(watch.number)

    def _watch(self, project_id: str, metric: Metric, depth: int, select: Select) -> _Watch:
        key = project_id, metric, depth
        watch = self._watches.get(key)
        if watch is not None:
            return watch
        windows = self._rings.setdefault(depth, Windows(depth, self._head))
        if self._free_watches:
            number = self._free_watches.pop()
        else:
            number = len(self._watch_of)
            self._watch_of.append(None)
        if number >= len(self._seen):
            size = max(64, 2 * len(self._seen))
            for name in ("_seen", "_depth_of", "_column_of", "_trips_above", "_trips_below"):
                old = getattr(self, name)
                setattr(self, name, np.pad(old, (0, size - len(old))))
        watch = _Watch(number, windows, windows.new_column(number))
        self._depth_of[number], self._column_of[number] = depth, watch.column
        self._watches[key] = watch
        self._watch_of[number] = watch
        self._minutes[project_id] += depth
        self._seen[number] = len(self._matching.add(number, project_id, metric, select)) > 0
        self._filling.add(number)
        return watch

    def _set_trips(self, watch: int) -> None:
        """From which values on a batch may make an alarm of the watch certain."""
        above, below = np.inf, -np.inf
        for number in self._parts_of_watch[watch]:
            part = self._parts[number].expression
            if not is_irreversible(part):
                continue
            if part.effective_function == "count":
                above = -np.inf  # any measurement may be the one
            elif part.effective_function == "max":
                above = min(above, part.threshold)
            else:
                below = max(below, part.threshold)
        self._trips_above[watch], self._trips_below[watch] = above, below

    # -- inside: time and measurements --------------------------------------------------------

    def _advance(self, now_ms: int) -> None:
        head = now_ms // MINUTE_MS + AHEAD
        if head > self._head:
            self._head = head
            for windows in self._rings.values():
                windows.advance(head)

    def _enter(self, batch: Batch, at: Int64s, watch: Int64s) -> list[tuple[Windows, Touched]]:
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

    def _crossed(self, watches: Int64s, high: Float64s, low: Float64s) -> set[int]:
        """Alarms of the watches that have a threshold of their own that was crossed."""
        order = np.argsort(watches, kind="stable")
        numbers, first = np.unique(watches[order], return_index=True)
        highest = np.maximum.reduceat(high[order], first)
        lowest = np.minimum.reduceat(low[order], first)
        found: set[int] = set()
        for number, above, below in zip(
            numbers.tolist(), highest.tolist(), lowest.tolist(), strict=True
        ):
            parts = self._parts_of_watch[number]
            found.update(
                part.alarm
                for part in map(self._parts.__getitem__, parts)
                if len(parts) == 1 or _crosses(part.expression, above, below)
            )
        return found

    # -- inside: judging ----------------------------------------------------------------------

    def _truths(self, minute: int, *, certain: bool = False) -> Truths:
        """The truth of each part by number; ``certain``: only what is true for good, all else is
        unknown."""
        result = np.full(self._next_part, UNKNOWN, np.int8)
        for kind in self._kinds.values():
            if certain and not is_irreversible(kind.like):
                continue
            kind.arrange()
            truth = self._judge(
                kind.like, kind.windows, kind.columns, kind.thresholds, kind.watches, minute
            )
            if certain:
                truth[truth != TRUE] = UNKNOWN
            result[kind.numbers] = truth
        return result

    def _judge(
        self,
        like: Subexpression,
        windows: Windows,
        columns: Int64s,
        thresholds: Float64s,
        watches: Int64s,
        minute: int,
    ) -> Truths:
        length = like.period_s // 60
        seen = self._seen[watches]
        truth: Truths = np.full(len(columns), TRUE, np.int8)
        for k in range(1, like.times + 1):
            first = minute - k * length
            value, has_data = values(windows, columns, like.effective_function, first, length)
            judged = judge(
                like, value, has_data, thresholds, seen=seen, blind=self._is_blind(first, length)
            )
            np.minimum(truth, judged, out=truth)
        return truth

    def _is_blind(self, first: int, length: int) -> bool:
        return any(first <= minute < first + length for minute in self._blind)

    def _find(self, part: _Part, minute: int) -> tuple[Finding, int]:
        """What one part's windows hold, and its truth."""
        like, watch = part.expression, part.watch
        length = like.period_s // 60
        seen = bool(self._seen[watch.number])
        found: list[WindowValue] = []
        truth = TRUE
        for k in range(like.times, 0, -1):
            first = minute - k * length
            value, has_data = value_of(
                watch.windows, watch.column, like.effective_function, first, length
            )
            known = seen if like.function == "count" else has_data
            blind = self._is_blind(first, length)
            truth = min(truth, judge_one(like, value, known=known, blind=blind))
            found.append(
                WindowValue(
                    first * MINUTE_MS, (first + length) * MINUTE_MS, value if known else None
                )
            )
        finding = Finding(
            part.text,
            AS_BOOL[truth],
            like.effective_function,
            like.operator,
            like.threshold,
            tuple(found),
            len(self._matching.matched(watch.number)),
        )
        return finding, truth

    def _certain(self, candidates: set[int], minute: int) -> set[int]:
        """Those of the alarms whose expression will be true at ``minute`` whatever arrives."""
        if len(candidates) > FEW:
            truths = self._truths(minute, certain=True)
        certain: set[int] = set()
        for number in candidates:
            alarm = self._alarm_at[number]
            if len(candidates) > FEW:
                leaves = [truths[p : p + 1] for p in alarm.parts]
            else:
                leaves = [self._certain_part(self._parts[p], minute) for p in alarm.parts]
            if combine(alarm.form.shape, leaves)[0] == TRUE:
                certain.add(number)
        return certain

    def _certain_part(self, part: _Part, minute: int) -> Truths:
        if is_irreversible(part.expression):
            truth = self._find(part, minute)[1]
            if truth == TRUE:
                return np.array([TRUE], np.int8)
        return np.array([UNKNOWN], np.int8)

    # -- inside: states -----------------------------------------------------------------------

    def _step(
        self, numbers: Int64s, truth: Truths, minute: int, *, blind: bool
    ) -> list[tuple[int, int]]:
        """Count what is unknown; the alarms that change, with their new state."""
        behind = self._ahead[numbers] > minute
        if behind.any():
            numbers, truth = numbers[~behind], truth[~behind]
        state = self._state[numbers]
        is_unknown = truth == UNKNOWN
        unknown = np.where(is_unknown, self._unknown[numbers] + (not blind), 0)
        self._unknown[numbers] = unknown
        new = np.full(len(numbers), -1, np.int8)
        new[(truth == TRUE) & (state != _ALARM) & (state != _FLAPPING)] = _ALARM
        new[(truth == FALSE) & (state != _OK)] = _OK
        new[is_unknown & (unknown >= self._patience[numbers]) & (state != _UNDETERMINED)] = (
            _UNDETERMINED
        )
        at = np.flatnonzero(new >= 0)
        return list(zip(numbers[at].tolist(), new[at].tolist(), strict=True))

    def _change(
        self, number: int, new: int, now_ms: int, minute: int, *, at_once: bool = False
    ) -> Transition:
        alarm = self._alarm_at[number]
        old = int(self._state[number])
        if old != _FLAPPING or new != _ALARM:
            alarm.changes.append(now_ms)
            if new == _ALARM and not self._is_calm(number, now_ms):
                new = _FLAPPING
        self._set_state(number, new)
        if at_once:
            self._unknown[number] = 0
            self._ahead[number] = minute
        findings = tuple(self._find(self._parts[p], minute)[0] for p in alarm.parts)
        return Transition(
            alarm.watched.id,
            now_ms,
            minute * MINUTE_MS,
            STATES[old],
            STATES[new],
            at_once,
            findings,
        )

    def _set_state(self, number: int, state: int) -> None:
        self._state[number] = state
        if state == _FLAPPING:
            self._flapping.add(number)
        else:
            self._flapping.discard(number)

    def _is_calm(self, number: int, now_ms: int) -> bool:
        """Whether the alarm changed seldom enough of late."""
        changes = self._alarm_at[number].changes
        while changes and changes[0] <= now_ms - self._rules.flapping_span_s * 1000:
            changes.popleft()
        return len(changes) <= self._rules.flapping_changes


def depth_of(part: Subexpression) -> int:
    """Minutes of windows that a subexpression needs, as they are kept."""
    depth = SMALLEST_DEPTH
    while depth < part.period_s // 60 * part.times + AHEAD + CAUGHT_UP + 1:
        depth *= 2
    return depth


def _crosses(part: Subexpression, high: float, low: float) -> bool:
    """Whether measurements as high and as low as this may make it true for good."""
    if not is_irreversible(part):
        return False
    function = part.effective_function
    return (
        function == "count"
        or (function == "max" and high >= part.threshold)
        or (function == "min" and low <= part.threshold)
    )


def _kind_of(part: Subexpression, depth: int) -> tuple[object, ...]:
    return depth, part.function, part.operator, part.period_s, part.times
