"""The ports of alarms: to their store, to the pipeline, and from their service to the evaluator."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from heliometer.alarms.dry_run import DryRun
from heliometer.alarms.engine.model import Explanation
from heliometer.alarms.expression import Expression
from heliometer.alarms.model import (
    Alarm,
    AlarmFilter,
    HistoryEntry,
    Outcome,
    Resumed,
    Transition,
)
from heliometer.metrics.ports import Stored
from heliometer.projects.model import ALL_PROJECTS, ProjectShard


class AlarmStore(Protocol):
    """Keeps the alarms that owners define, and their history."""

    async def create(self, alarm: Alarm, by: str, limit: int) -> None:
        """Store a new alarm.

        Raises CONFLICT when the project has one of that name and normal form, MALFORMED for an
        action that is no notification method of the project, and RATE_LIMITED when the project
        has ``limit`` alarms already.
        """
        ...

    async def get(self, project_id: str, alarm_id: str) -> Alarm:
        """The alarm; raise NOT_FOUND when the project has no such alarm."""
        ...

    async def find(
        self, project_id: str, wanted: AlarmFilter, after: str | None, limit: int
    ) -> list[Alarm]:
        """Alarms in order of creation, from the one after id ``after``; NOT_FOUND for a wrong
        id."""
        ...

    async def update(self, alarm: Alarm, by: str) -> None:
        """Replace what the owner defines, never the state. Raises as ``create``, and NOT_FOUND."""
        ...

    async def delete(self, project_id: str, alarm_id: str, by: str) -> None:
        """Remove the alarm with its history and its deliveries that were not sent yet."""
        ...

    async def force(self, transition: Transition, by: str) -> None:
        """Record a state that was set by hand, without notifications. Raises CONFLICT when the
        alarm is no longer in the old state."""
        ...

    async def history(
        self, project_id: str, alarm_id: str | None, before_id: int | None, limit: int
    ) -> list[HistoryEntry]:
        """Transitions of an alarm, or of the whole project, newest first."""
        ...


class Superseded(Exception):
    """Another process has taken over the evaluation of these alarms."""


class EvaluationStore(Protocol):
    """Keeps what evaluation decides, and what it resumes from."""

    async def resume(
        self, changed_since_ms: int, shard: ProjectShard = ALL_PROJECTS, *, from_ms: int = 0
    ) -> Resumed:
        """Take over the enabled alarms of a shard: read them, and what the engine knew at the last
        commit, and issue a new fencing token.

        A shard that nobody had before counts as evaluated up to ``from_ms``: should its first
        owner end before it evaluates anything, the next one continues from there.
        """
        ...

    async def commit(
        self, outcome: Outcome, shard: ProjectShard = ALL_PROJECTS, fencing_token: int | None = None
    ) -> list[str]:
        """Record transitions, new states, the notifications that they cause and the checkpoint: all
        in one transaction, or nothing.

        A transition whose alarm was deleted, disabled or is no longer in its old state is left
        out; return the ids of those alarms. One that an earlier commit recorded, whose answer was
        lost, is neither left out nor recorded again. Raises Superseded, and records nothing, when
        the shard was taken over since that token was issued; ``None`` skips that check.
        """
        ...

    async def get(self, project_id: str, alarm_id: str) -> Alarm:
        """The alarm as it is stored; raise NOT_FOUND when the project has no such alarm."""
        ...


class MeasurementSource(Protocol):
    """Stores measurements, and passes them to listeners."""

    def listen(self, stored: Stored) -> None:
        """Have ``stored`` called with everything that is stored from now on."""
        ...

    def quiet(self) -> AbstractAsyncContextManager[None]:
        """Nothing is stored meanwhile: what the store holds is what listeners were given."""
        ...


class Watcher(Protocol):
    """Has alarms evaluated as they are stored: by this process, or by the owner of their shard."""

    async def minutes_kept(self, project_id: str) -> int:
        """Minutes of windows that the project's alarms keep in memory."""
        ...

    async def watch(self, alarm: Alarm) -> None:
        """Evaluate the alarm from now on, as it is stored. Raises UNAVAILABLE when that cannot be
        done yet; it is retried."""
        ...

    async def forget(self, project_id: str, alarm_ids: Iterable[str]) -> None:
        """Stop evaluating these alarms of a project."""
        ...


class Explainer(Protocol):
    """Explains the state of alarms."""

    async def explain(self, alarm: Alarm) -> Explanation:
        """Why the alarm is in its state, as of the last whole minute.

        Where this process evaluates the alarm, its engine answers, and raises NOT_FOUND for one
        that is not watched; elsewhere the answer is worked out from stored measurements, and does
        not know how often in a row the expression was unknown. Raises UNAVAILABLE when those
        cannot be read.
        """
        ...


class DryRuns(Protocol):
    """Tries expressions on stored measurements."""

    async def run(
        self, project_id: str, expression: Expression, start_ms: int, end_ms: int
    ) -> DryRun:
        """What an alarm with this expression would have done. Raises INVALID for too much data."""
        ...
