"""Alarms, their transitions and history, and the port of their store.

Times are milliseconds since the epoch. An alarm's expression is kept as text, as its owner wrote
it; ``heliometer.alarms.expression`` gives it meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from heliometer.projects.model import ALL_PROJECTS, ProjectShard

NAME_LENGTH = 250
"""Characters of an alarm's name (v1.1 §4.4.6.1)."""
DESCRIPTION_LENGTH = 1000
SEVERITIES = ("low", "medium", "high", "critical")
DEFAULT_SEVERITY = "medium"
ACTIONS = 100
"""Notification methods that one list of actions may name."""


class State(Enum):
    """Where an alarm is in its life (v1.1 §4.4.6, v1.0 §4.4.5)."""

    UNDETERMINED = "UNDETERMINED"
    OK = "OK"
    ALARM = "ALARM"
    FLAPPING = "FLAPPING"
    """In alarm, but it changed too often of late: v1.1 shows it as ALARM."""


@dataclass(frozen=True, slots=True)
class WindowValue:
    """What a function gave over one window, [start, end)."""

    start_ms: int
    end_ms: int
    value: float | None
    """``None``: there was no measurement."""


@dataclass(frozen=True, slots=True)
class SeriesValue:
    """What one series gave over the newest window of a subexpression."""

    dimensions: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What the evaluation of one subexpression found."""

    text: str
    """The subexpression, as it renders itself."""
    truth: bool | None
    """``None``: unknown, for want of data."""
    function: str
    operator: str
    threshold: float
    windows: tuple[WindowValue, ...]
    """Oldest first; as many as the subexpression's ``times``."""
    matching: int
    """Series that the metric matches."""
    series: tuple[SeriesValue, ...] = ()
    """Those that caused the value, a few at most, the strongest first."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of an alarm's state, and why."""

    alarm_id: str
    at_ms: int
    """When it was decided."""
    minute_ms: int
    """End of the evaluated windows: a whole minute."""
    old: State
    new: State
    at_once: bool
    """Decided on the arrival of a measurement, before the minute was over."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm as its owner defined it, with the state that the engine gave it."""

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
    """Ids of notification methods, told when the alarm enters that state."""
    rule: str = ""
    """The expression in the words of the dialect that it was defined in, if that has its own."""


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
    """A transition as it was recorded, and what became of each notification that it queued."""

    id: int
    """Rises with time."""
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
    """Why it was withheld or failed, or what the relay said when it took it."""
    attempts: int
    at_ms: int
    """When this status was reached."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the engine goes on from after a restart."""

    alarms: Sequence[Alarm]
    changes: Mapping[str, tuple[int, ...]]
    """For each alarm that changed of late, the times of its newest changes, oldest first."""
    checkpoint: bytes
    evaluated_ms: int
    """The last minute whose evaluation was committed; 0: none ever."""
    epoch: int = 0
    """Which taking over this is; ``commit`` takes outcomes of the newest only."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one evaluation decided, to be committed as a whole."""

    transitions: Sequence[Transition]
    checkpoint: bytes | None = None
    """What the engine must know after a restart; ``None``: as before."""
    evaluated_ms: int | None = None
    """The minute that was evaluated; ``None`` for transitions made at once."""


class Superseded(Exception):
    """Another process has taken over the evaluation of these alarms."""


class AlarmStore(Protocol):
    """Keeps alarms, their history, and the outbox rows that transitions queue."""

    async def create(self, alarm: Alarm, by: str, limit: int) -> None:
        """Store a new alarm.

        Raises CONFLICT when the project has one of that name and normal form, MALFORMED for an
        action that is no notification method of the project, and RATE_LIMITED when the project
        has ``limit`` alarms already.
        """
        ...

    async def get(self, project_id: str, alarm_id: str) -> Alarm:
        """The alarm; raise NOT_FOUND when the project has no such."""
        ...

    async def find(
        self, project_id: str, wanted: AlarmFilter, after: str | None, limit: int
    ) -> list[Alarm]:
        """Alarms in order of creation, those behind the id ``after``; NOT_FOUND for a wrong one."""
        ...

    async def update(self, alarm: Alarm, by: str) -> None:
        """Replace what the owner defines, never the state. Raises as ``create``, and NOT_FOUND."""
        ...

    async def delete(self, project_id: str, alarm_id: str, by: str) -> None:
        """Remove the alarm with its history; what it queued and is not sent is dropped."""
        ...

    async def history(
        self, project_id: str, alarm_id: str | None, before_id: int | None, limit: int
    ) -> list[HistoryEntry]:
        """Transitions of an alarm, or of the whole project, newest first."""
        ...

    async def commit(
        self, outcome: Outcome, share: ProjectShard = ALL_PROJECTS, epoch: int | None = None
    ) -> list[str]:
        """Record transitions, new states, the notifications they queue and the checkpoint: all in
        one transaction, or nothing.

        A transition whose alarm was deleted, disabled or is not in its old state any more is left
        out; return the ids of those alarms. One that was recorded before, by a commit whose
        answer was lost, is not left out, nor is it recorded again. Raises Superseded, and records
        nothing, when the share was resumed again since that ``epoch``; ``None``: it is not looked
        at.
        """
        ...

    async def force(self, transition: Transition, by: str) -> None:
        """Record a state that somebody set; nobody is notified. Raises CONFLICT when the alarm is
        not in the old state any more."""
        ...

    async def resume(
        self, changed_since_ms: int, share: ProjectShard = ALL_PROJECTS, *, from_ms: int = 0
    ) -> Resumed:
        """Take over the enabled alarms of a share of the projects: those alarms, what the engine
        knew when it was last committed, and a new epoch.

        A share that nobody had before counts as evaluated up to ``from_ms``: should its first
        owner end before it evaluates anything, the next one goes on from there.
        """
        ...


def told(alarm: Alarm, state: State) -> tuple[str, ...]:
    """The notification methods that are told when the alarm enters a state."""
    return {
        State.ALARM: alarm.alarm_actions,
        State.OK: alarm.ok_actions,
        State.UNDETERMINED: alarm.undetermined_actions,
        State.FLAPPING: (),
    }[state]


def reason_document(transition: Transition) -> dict[str, Any]:
    """A transition's reason as plain data, for rendering and for keeping."""
    return {
        "minute_ms": transition.minute_ms,
        "at_once": transition.at_once,
        "findings": [
            {
                "text": f.text,
                "truth": f.truth,
                "function": f.function,
                "operator": f.operator,
                "threshold": f.threshold,
                "windows": [[w.start_ms, w.end_ms, w.value] for w in f.windows],
                "matching": f.matching,
                "series": [[dict(s.dimensions), s.value] for s in f.series],
            }
            for f in transition.findings
        ],
    }
