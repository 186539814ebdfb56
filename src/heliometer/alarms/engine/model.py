"""The engine's input, and the explanations that it returns."""

from dataclasses import dataclass

from heliometer.alarms.expression import Expression
from heliometer.alarms.model import Finding, State
from heliometer.metrics.model import Int64s, Series


@dataclass(frozen=True, slots=True)
class Rules:
    """How the engine behaves, from the settings."""

    at_once: bool = True
    flapping_changes: int = 4
    flapping_span_s: int = 600


@dataclass(frozen=True, slots=True)
class Doubt:
    """Minutes, by number, that prove less than others: the service was away, or the clock was
    set."""

    unseen: range = range(0)
    """Nobody was there: what is missing proves nothing."""
    repeated: range = range(0)
    """The clock was set back and goes through them again: what is stored of them may hold the
    measurements of both times, and proves nothing either way."""
    awaited: range = range(0)
    """The clock was set: until a metric has a measurement from then on, its silence may come from
    clients whose clocks were not set, and proves nothing."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An alarm to be watched, with its state and its latest changes."""

    id: str
    project_id: str
    expression: Expression
    state: State = State.UNDETERMINED
    changes: tuple[int, ...] = ()
    """Times of its latest changes in milliseconds, oldest first; they decide whether it flaps."""


@dataclass(frozen=True, slots=True)
class Need:
    """Stored measurements that windows need before they can be judged."""

    series: Int64s
    since_ms: int


@dataclass(frozen=True, slots=True)
class SubexpressionExplained:
    """The present values of one subexpression's windows."""

    finding: Finding
    series: tuple[Series, ...]
    last_ms: int
    """Time of the newest measurement; 0 if there was none recently."""
    last_value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an alarm is in its state."""

    minute_ms: int
    state: State
    truth: bool | None
    unknown: int
    """Consecutive evaluations in which the expression was unknown."""
    patience: int
    """The number of unknown evaluations that makes the alarm UNDETERMINED."""
    subexpressions: tuple[SubexpressionExplained, ...]
