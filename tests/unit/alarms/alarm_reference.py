"""The alarm engine once more, written naively: lists of measurements and loops, nothing kept.

Every decision is worked out anew from all measurements that arrived, straight from the words of the
design. It shares no code with the engine but the expressions' nodes.
"""

from dataclasses import dataclass, field

from heliometer.alarms.expression import Expression, Logical, Subexpression, subexpressions
from heliometer.alarms.model import State
from heliometer.metrics.model import Series

MINUTE = 60_000


@dataclass
class Reference:
    """One alarm."""

    project_id: str
    expression: Expression
    at_once: bool
    flapping_changes: int
    flapping_span_ms: int
    series: dict[int, Series]
    measurements: list[tuple[int, int, float]]
    """Series, milliseconds, value: all that arrived, shared by all alarms."""
    evaluated: int
    """The last minute that was evaluated."""
    state: State = State.UNDETERMINED
    ahead: int = 0
    """The minute for which it went off at once: earlier ones say nothing any more."""
    unknown: int = 0
    changes: list[int] = field(default_factory=list)
    blind: set[int] = field(default_factory=set)
    transitions: list[tuple[int, int, State, State, bool]] = field(default_factory=list)

    def arrived(self, rows: list[tuple[int, int, float]], now: int) -> None:
        """These were taken: does the alarm go off at once? Only what crosses a threshold itself
        is a reason to look."""
        if not self.at_once or self.state in (State.ALARM, State.FLAPPING):
            return
        if not any(
            self.crosses(part, row) for part in subexpressions(self.expression) for row in rows
        ):
            return
        for minute in range(self.evaluated + 1, now // MINUTE + 2):
            if self.truth(self.expression, minute, only_certain=True) is True:
                self.unknown, self.ahead = 0, minute
                self.change(State.ALARM, now, minute, at_once=True)
                return

    def evaluate(self, minute: int, now: int, *, blind: bool) -> None:
        """One regular evaluation."""
        if minute <= self.evaluated:
            return
        if blind:
            self.blind.add(minute - 1)
        self.evaluated = minute
        if minute < self.ahead:
            if self.state is State.FLAPPING and not self.flaps(minute * MINUTE):
                self.change(State.ALARM, now, minute)
            return
        truth = self.truth(self.expression, minute)
        if truth is None:
            self.unknown += not blind and self.is_silent(minute)
            longest = max(p.period_s for p in subexpressions(self.expression))
            patient = self.unknown < max(2, 2 * longest // 60)
            if not patient and self.state is not State.UNDETERMINED:
                self.change(State.UNDETERMINED, now, minute)
                return
        else:
            self.unknown = 0
        if truth is True and self.state not in (State.ALARM, State.FLAPPING):
            self.change(State.ALARM, now, minute)
        elif truth is False and self.state is not State.OK:
            self.change(State.OK, now, minute)
        elif self.state is State.FLAPPING and not self.flaps(minute * MINUTE):
            self.change(State.ALARM, now, minute)

    def change(self, new: State, now: int, minute: int, *, at_once: bool = False) -> None:
        old = self.state
        if (old, new) != (State.FLAPPING, State.ALARM):
            self.changes.append(now)
            if new is State.ALARM and self.flaps(now):
                new = State.FLAPPING
        self.state = new
        self.transitions.append((now, minute, old, new, at_once))

    def flaps(self, now: int) -> bool:
        recent = [c for c in self.changes if c > now - self.flapping_span_ms]
        return len(recent) > self.flapping_changes

    def crosses(self, part: Subexpression, row: tuple[int, int, float]) -> bool:
        if row[0] not in self.matching(part) or not lasting(part):
            return False
        if part.function == "count":
            return True
        return row[2] >= part.threshold if ">" in part.operator else row[2] <= part.threshold

    def matching(self, part: Subexpression) -> set[int]:
        return {
            s.id
            for s in self.series.values()
            if s.project_id == self.project_id
            and s.namespace == part.metric.namespace
            and set(part.metric.dimensions) <= set(s.dimensions)
        }

    def truth(
        self, expression: Expression, minute: int, *, only_certain: bool = False
    ) -> bool | None:
        if isinstance(expression, Logical):
            truths = [self.truth(e, minute, only_certain=only_certain) for e in expression.operands]
            decisive = expression.operator == "or"
            if decisive in truths:
                return decisive
            return None if None in truths else not decisive
        windows = [
            self.window(expression, minute - k * (expression.period_s // 60))
            for k in range(expression.times)
        ]
        truth = False if False in windows else None if None in windows else True
        if only_certain:
            return True if truth is True and lasting(expression) else None
        return truth

    def window(self, part: Subexpression, end_minute: int) -> bool | None:
        """Whether the window that ends there satisfies the comparison."""
        start, end = (end_minute - part.period_s // 60) * MINUTE, end_minute * MINUTE
        matching = self.matching(part)
        found = [v for s, t, v in self.measurements if s in matching and start <= t < end]
        if part.function == "count":
            if not matching:
                return None
        elif not found:
            return None
        value = {
            "count": lambda: float(len(found)),
            "sum": lambda: float(sum(found)),
            "avg": lambda: sum(found) / len(found),
            "min": lambda: min(found),
            "max": lambda: max(found),
        }[part.effective_function]()
        satisfied = {
            "<": value < part.threshold,
            "<=": value <= part.threshold,
            ">": value > part.threshold,
            ">=": value >= part.threshold,
        }[part.operator]
        low = part.operator in ("<", "<=")
        if part.function in ("count", "sum"):
            undone = satisfied == low
        else:
            undone = satisfied and low and part.effective_function != "min"
        return None if undone and self.away(start // MINUTE, end_minute) else satisfied

    def away(self, first: int, end: int) -> bool:
        return any(first <= m < end for m in self.blind)

    def is_silent(self, minute: int) -> bool:
        """Whether something is unknown that was seen whole, or has no measurement now."""
        return any(
            self.truth(part, minute) is None and not self.is_excused(part, minute)
            for part in subexpressions(self.expression)
        )

    def is_excused(self, part: Subexpression, minute: int) -> bool:
        length = part.period_s // 60
        if self.away(minute - length, minute):
            return True
        matching, start = self.matching(part), (minute - length) * MINUTE
        has_data = any(
            s in matching and start <= t < minute * MINUTE for s, t, _ in self.measurements
        )
        return has_data and self.away(minute - part.times * length, minute)


def lasting(part: Subexpression) -> bool:
    """Whether more measurements cannot undo it."""
    rising = part.operator in (">", ">=")
    function = part.effective_function
    return function in ("max", "count") if rising else function == "min"
