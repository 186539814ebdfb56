"""The alarm engine: every watched metric and alarm in memory, evaluated as arrays.

Pure: it knows no clock, no store and no other thread; every method is given the time. A minute is
numbered by ``ms // 60000``; evaluating minute ``e`` looks at windows that end where it begins.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from heliometer.alarms.engine.matching import Select
from heliometer.alarms.engine.model import Doubt, Explanation, Need, Rules, Watched
from heliometer.alarms.engine.states import ALARM, States
from heliometer.alarms.engine.subexpressions import Subexpressions
from heliometer.alarms.engine.truth import AS_BOOL, TRUE, UNKNOWN, Shape, combine, shape
from heliometer.alarms.engine.watched_metrics import WatchedMetrics
from heliometer.alarms.engine.windows import AHEAD
from heliometer.alarms.expression import longest_period_s, subexpressions
from heliometer.alarms.model import Transition
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.statistics import MINUTE_MS

FEW = 64
"""Up to so many alarms are checked one by one when measurements arrive; more are checked as
arrays."""


@dataclass(slots=True)
class _Form:
    """Alarms whose trees have the same shape, combined in one go."""

    shape: Shape
    alarms: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """The numbers of each alarm's subexpressions."""
    numbers: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    leaves: Int64s = field(default_factory=lambda: np.empty((0, 0), np.int64))
    stale: bool = True

    def arrange(self) -> None:
        """Lay the alarms out as arrays; ``leaves`` has one row for each leaf."""
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
    leaves: tuple[int, ...]


class Engine:
    """Evaluates the watched alarms. To be used from one thread at a time."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._metrics = WatchedMetrics()
        self._leaves = Subexpressions(self._metrics)
        self._states = States(rules)
        self._forms: dict[Shape, _Form] = {}
        self._alarms: dict[str, _Alarm] = {}
        self._alarm_at: dict[int, _Alarm] = {}
        self._free: list[int] = []
        self._evaluated = 0
        self._repeated = self._awaited = range(0)

    def __len__(self) -> int:
        return len(self._alarms)

    # -- alarms -------------------------------------------------------------------------------

    def add(self, alarms: Iterable[Watched], select: Select, now_ms: int) -> list[Need]:
        """Watch alarms, replacing those that are watched already. Where the expression is
        unchanged, only the state is taken over, and the counts are kept. Returns the stored
        measurements that new windows need, to be passed to ``fill``."""
        self._metrics.advance(now_ms)
        for watched in alarms:
            old = self._alarms.get(watched.id)
            if old is None:
                self._add(watched, select)
            elif old.watched.expression == watched.expression:
                self._states.put(old.number, watched.state)
            else:
                changes = watched.changes or self._states.changes(old.number)
                self._add(replace(watched, changes=changes), select)
                self._remove(old)  # only now: windows that both use stay filled
        return self._metrics.needs()

    def fill(self, batch: Batch) -> None:
        """Enter stored measurements into the windows that need them, and into no others. May be
        called piece by piece, until ``filled``."""
        self._metrics.fill(batch)

    def filled(self) -> None:
        """All measurements that were needed have been entered."""
        self._metrics.filled()

    def give_up_filling(self) -> None:
        """Stop watching the alarms whose windows could not be filled, since they would be judged on
        missing measurements."""
        numbers = self._leaves.alarms_of(self._metrics.filling)
        self.remove([self._alarm_at[number].watched.id for number in numbers])

    def remove(self, alarm_ids: Iterable[str]) -> None:
        """Stop watching these alarms; unknown ids are ignored."""
        for alarm_id in alarm_ids:
            alarm = self._alarms.pop(alarm_id, None)
            if alarm is not None:
                self._remove(alarm)

    def know(self, series: Iterable[Series]) -> None:
        """Match new series against the watched metrics."""
        self._metrics.know(series)

    def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows kept for a project's alarms; each takes 32 bytes."""
        return self._metrics.minutes_kept(project_id)

    def _add(self, watched: Watched, select: Select) -> None:
        number = self._free.pop() if self._free else len(self._alarm_at)
        form_key = shape(watched.expression)
        form = self._forms.setdefault(form_key, _Form(form_key))
        leaves = tuple(
            self._leaves.add(watched.project_id, each, number, select)
            for each in subexpressions(watched.expression)
        )
        form.alarms[number] = leaves
        form.stale = True
        alarm = _Alarm(watched, number, form, leaves)
        self._alarms[watched.id] = self._alarm_at[number] = alarm
        patience = max(2, 2 * longest_period_s(watched.expression) // 60)
        self._states.add(number, watched.state, patience, watched.changes)

    def _remove(self, alarm: _Alarm) -> None:
        del self._alarm_at[alarm.number]
        del alarm.form.alarms[alarm.number]
        alarm.form.stale = True
        self._states.remove(alarm.number)
        self._free.append(alarm.number)
        for number in alarm.leaves:
            self._leaves.remove(number)

    # -- measurements -------------------------------------------------------------------------

    def take(self, batch: Batch, now_ms: int) -> list[Transition]:
        """Enter measurements as they arrive. Returns the alarms that went off at once."""
        self._metrics.advance(now_ms)
        touched = self._metrics.enter(batch)
        if not self._rules.at_once:
            return []
        candidates = self._states.not_in_alarm(self._leaves.crossed(touched))
        transitions: list[Transition] = []
        for minute in range(self._evaluated + 1, now_ms // MINUTE_MS + 2):
            if not candidates or not self._evaluated:
                break
            certain = self._certain(candidates, minute)
            for number in sorted(certain):
                transitions.append(self._change(number, ALARM, now_ms, minute, at_once=True))
                self._states.went_off(number, minute)
            candidates -= certain
        return transitions

    def _certain(self, candidates: set[int], minute: int) -> set[int]:
        """Those of the alarms whose expression will be true at ``minute`` whatever still
        arrives."""
        if len(candidates) > FEW:
            truths = self._leaves.truths(minute, certain=True)
            if not (truths == TRUE).any():  # a tree whose leaves are all unknown is never true
                return set()
        certain: set[int] = set()
        for number in candidates:
            alarm = self._alarm_at[number]
            if len(candidates) > FEW:
                leaves = [truths[leaf : leaf + 1] for leaf in alarm.leaves]
            else:
                leaves = [self._leaves.truth_if_certain(leaf, minute) for leaf in alarm.leaves]
            if combine(alarm.form.shape, leaves)[0] == TRUE:
                certain.add(number)
        return certain

    # -- evaluation ---------------------------------------------------------------------------

    def evaluate(self, minute_ms: int, now_ms: int, *, blind: bool = False) -> list[Transition]:
        """Evaluate the windows that ended at ``minute_ms``, unless that was done already.
        ``blind``: the minute before was not seen whole, so missing measurements prove nothing."""
        minute = minute_ms // MINUTE_MS
        if minute <= self._evaluated:
            return []
        self._metrics.advance(max(now_ms, minute_ms))
        if blind:
            self._leaves.blind.append(minute - 1)
        self._leaves.forget_blindness(minute)
        self._evaluated = minute
        if minute >= self._awaited.stop:
            self._metrics.wait_for_none()
        truths = self._leaves.truths(minute)
        excused = self._leaves.excused(minute)
        changed: list[tuple[int, int]] = []
        for form in self._forms.values():
            if not form.alarms:
                continue
            form.arrange()
            truth = combine(form.shape, [truths[row] for row in form.leaves])
            excuse = np.full(len(form.numbers), blind)
            if excused is not None:
                # Only what is unknown for another reason counts.
                counts = [(truths[row] == UNKNOWN) & ~excused[row] for row in form.leaves]
                excuse |= ~np.any(counts, axis=0)
            changed += self._states.step(form.numbers, truth, minute, excused=excuse)
        moved = {n for n, _ in changed}
        changed += [(n, ALARM) for n in self._states.calmed(minute_ms) if n not in moved]
        return [self._change(n, new, now_ms, minute) for n, new in sorted(changed)]

    def _change(
        self, number: int, new: int, now_ms: int, minute: int, *, at_once: bool = False
    ) -> Transition:
        alarm = self._alarm_at[number]
        old, now = self._states.change(number, new, now_ms)
        findings = tuple(self._leaves.find(leaf, minute)[0] for leaf in alarm.leaves)
        return Transition(alarm.watched.id, now_ms, minute * MINUTE_MS, old, now, at_once, findings)

    # -- explanations -------------------------------------------------------------------------

    def explain(self, alarm_id: str, minute_ms: int) -> Explanation:
        """Why an alarm is in its state, over the windows that end at ``minute_ms``. Raises
        NOT_FOUND for an alarm that is not watched."""
        alarm = self._alarms.get(alarm_id)
        if alarm is None:
            raise HeliometerError(
                Code.NOT_FOUND, "The alarm is not watched.", details="It may be disabled."
            )
        explained, truths = [], []
        for leaf in alarm.leaves:
            each, truth = self._leaves.explain(leaf, minute_ms // MINUTE_MS)
            explained.append(each)
            truths.append(np.array([truth], np.int8))
        return Explanation(
            minute_ms,
            self._states.state(alarm.number),
            AS_BOOL[int(combine(alarm.form.shape, truths)[0])],
            self._states.unknown(alarm.number),
            self._states.patience(alarm.number),
            tuple(explained),
        )

    def values_of(self, alarm_id: str, minute_ms: int) -> list[float | None]:
        """The value of the newest window of each of an alarm's subexpressions."""
        minute = minute_ms // MINUTE_MS
        return [self._leaves.newest_value(leaf, minute) for leaf in self._alarms[alarm_id].leaves]

    # -- restarts -----------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """The state that a restart cannot read from the store: how long alarms have been unknown,
        and which minutes are in doubt."""
        document = {
            "unknown": self._by_id(self._states.counting()),
            "ahead": self._by_id(self._states.ahead(self._evaluated)),
            "blind": self._leaves.blind,
            "repeated": _bounds(self._repeated),
            "awaited": _bounds(self._awaited),
        }
        return zlib.compress(msgspec.json.encode(document), 1)

    def restore(self, checkpoint: bytes, evaluated_ms: int) -> None:
        """Resume from a checkpoint, after the alarms have been added."""
        self._evaluated = evaluated_ms // MINUTE_MS
        if not checkpoint:
            return
        known = msgspec.json.decode(zlib.decompress(checkpoint))
        self._leaves.blind = [m for m in known["blind"] if m <= self._evaluated]
        self._repeated = range(*known.get("repeated", (0, 0)))
        self._awaited = range(*known.get("awaited", (0, 0)))
        for alarm_id, unknown in known["unknown"].items():
            if alarm_id in self._alarms:
                self._states.restore(self._alarms[alarm_id].number, unknown=unknown)
        for alarm_id, minute in known["ahead"].items():
            # A minute that is farther off is one of a clock that was set back since.
            if alarm_id in self._alarms and minute <= self._evaluated + AHEAD + 1:
                self._states.restore(self._alarms[alarm_id].number, ahead=minute)

    def doubt(self, doubt: Doubt) -> None:
        """Note minutes that prove less than others, besides those of the checkpoint; to be called
        after ``restore``, whether there are any or not."""
        self._leaves.blind += doubt.unseen
        self._repeated = doubt.repeated or self._repeated
        self._awaited = doubt.awaited or self._awaited
        # Only what was read from the store can be of both times; it ends where time stands now.
        last = self._evaluated + AHEAD + 1
        self._leaves.repeated = [m for m in self._repeated if m <= last]
        if self._evaluated < self._awaited.stop:
            self._metrics.wait_for_all(self._awaited.start * MINUTE_MS)

    def _by_id(self, by_number: dict[int, int]) -> dict[str, int]:
        at = self._alarm_at
        return {at[n].watched.id: value for n, value in by_number.items() if n in at}


def _bounds(minutes: range) -> tuple[int, int]:
    return minutes.start, minutes.stop
