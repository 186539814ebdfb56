"""Alarms, their transitions and their history.

Times are milliseconds since the epoch. An alarm's expression is kept as text, as its owner wrote
it; ``heliometer.alarms.expression`` gives it meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

NAME_LENGTH = 250
"""Characters of an alarm's name (v1.1 §4.4.6.1)."""
DESCRIPTION_LENGTH = 1000
SEVERITIES = ("low", "medium", "high", "critical")
DEFAULT_SEVERITY = "medium"
ACTIONS = 100
"""Notification methods that one list of actions may name."""


class State(Enum):
    """The state of an alarm (v1.1 §4.4.6, v1.0 §4.4.5)."""

    UNDETERMINED = "UNDETERMINED"
    OK = "OK"
    ALARM = "ALARM"
    FLAPPING = "FLAPPING"
    """In alarm, after too many changes in a short time; v1.1 shows it as ALARM."""


@dataclass(frozen=True, slots=True)
class WindowValue:
    """The value of a function over one window, [start, end)."""

    start_ms: int
    end_ms: int
    value: float | None
    """``None`` without a measurement."""


@dataclass(frozen=True, slots=True)
class SeriesValue:
    """The value of one series over the newest window of a subexpression."""

    dimensions: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of the evaluation of one subexpression."""

    text: str
    """The subexpression, as it renders itself."""
    truth: bool | None
    """``None`` if unknown, because there is no data."""
    function: str
    operator: str
    threshold: float
    windows: tuple[WindowValue, ...]
    """Oldest first; as many as the subexpression's ``times``."""
    matching: int
    """How many series the metric matches."""
    series: tuple[SeriesValue, ...] = ()
    """The few series that caused the value, most extreme first."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of an alarm's state, and why."""

    alarm_id: str
    at_ms: int
    """When the change was decided, in milliseconds since the epoch."""
    minute_ms: int
    """End of the evaluated windows: a whole minute."""
    old: State
    new: State
    at_once: bool
    """Whether it was decided when a measurement arrived, before the minute was over."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm as its owner defined it, and the state that it is in."""

    id: str
    project_id: str
    name: str
    expression: str
    normal_form: str
    """Equal for expressions that mean the same; with project and name it is unique."""
    created_ms: int
    updated_ms: int
    state: State = State.UNDETERMINED
    state_since_ms: int = 0
    description: str = ""
    severity: str = DEFAULT_SEVERITY
    enabled: bool = True
    alarm_actions: tuple[str, ...] = ()
    ok_actions: tuple[str, ...] = ()
    undetermined_actions: tuple[str, ...] = ()
    """Ids of the notification methods to use when the alarm enters that state."""
    rule: str = ""
    """The rule as its dialect words it, where that has a language of its own."""


@dataclass(frozen=True, slots=True)
class AlarmFilter:
    """Which alarms to list, by id; ``None`` and empty mean any."""

    name: str | None = None
    """Part of the name, in any case."""
    states: frozenset[State] = frozenset()
    severities: frozenset[str] = frozenset()
    enabled: bool | None = None
    method_id: str | None = None
    """Only those with this notification method among their actions."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A recorded transition, and what became of each notification that it caused."""

    id: int
    """Higher for later transitions."""
    transition: Transition
    deliveries: tuple["DeliveryFate", ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryFate:
    """What became of one notification."""

    id: str
    method_id: str
    type: str
    address: str
    status: str
    """One of ``notifications.STATUSES``."""
    reason: str
    """Why it was withheld or failed, or what the relay answered when it took the message."""
    attempts: int
    at_ms: int
    """When it reached this status."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the engine continues from after a restart."""

    alarms: Sequence[Alarm]
    changes: Mapping[str, tuple[int, ...]]
    """Times of the latest changes of each alarm that changed lately, oldest first."""
    checkpoint: bytes
    evaluated_ms: int
    """The last minute whose evaluation was committed; 0 if none was."""
    fencing_token: int = 0
    """Rises each time the shard is taken over; ``commit`` accepts the newest only."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one evaluation decided; it is committed as a whole."""

    transitions: Sequence[Transition]
    checkpoint: bytes | None = None
    """What the engine must know after a restart; ``None`` leaves it as it was."""
    evaluated_ms: int | None = None
    """The minute that was evaluated; ``None`` for transitions decided at once."""
