"""Alarms: definition, state and history, explanations, and dry runs of expressions."""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from heliometer.alarms.dry_run import DryRun
from heliometer.alarms.engine.model import Explanation
from heliometer.alarms.engine.watched_metrics import depth_of
from heliometer.alarms.expression import normal_form, parse, subexpressions
from heliometer.alarms.model import (
    ACTIONS,
    DESCRIPTION_LENGTH,
    NAME_LENGTH,
    SEVERITIES,
    Alarm,
    AlarmFilter,
    HistoryEntry,
    State,
    Transition,
)
from heliometer.alarms.ports import AlarmStore, DryRuns, Explainer, Watcher
from heliometer.config import LimitSettings
from heliometer.core.errors import Code, HeliometerError, Invalid, Malformed
from heliometer.identity.model import Caller
from heliometer.metrics.statistics import MINUTE_MS

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
DRY_RUN_DAYS = 45
"""The longest range that a dry run covers, in days."""
EVALUATIONS = 200_000
"""Limit of subexpressions × minutes in one dry run: about half a minute of work."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The fields that a client may set; ``None`` keeps the present value, or takes the default."""

    name: str | None = None
    expression: str | None = None
    description: str | None = None
    severity: str | None = None
    enabled: bool | None = None
    alarm_actions: tuple[str, ...] | None = None
    ok_actions: tuple[str, ...] | None = None
    undetermined_actions: tuple[str, ...] | None = None
    rule: str | None = None
    """The expression in a dialect's own form; dropped when only the expression is given."""

    def given(self) -> Mapping[str, Any]:
        """The fields that are not ``None``."""
        every = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in every.items() if value is not None}


class Alarms:
    """The alarms of the caller's project (v1.1 §4.4.6, and extensions to it). Whatever belongs to
    another project is NOT_FOUND, as if it did not exist."""

    def __init__(
        self,
        store: AlarmStore,
        watcher: Watcher,
        explainer: Explainer,
        dry_runs: DryRuns,
        limits: LimitSettings,
        retention_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._watcher = watcher
        self._explainer = explainer
        self._dry_runs = dry_runs
        self._limits = limits
        self._retention_days = retention_days
        self._clock = clock
        self._trying: set[str] = set()
        """Projects that have a dry run in progress."""

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    async def create(self, caller: Caller, wanted: Definition) -> Alarm:
        """Define an alarm. It starts as UNDETERMINED and is evaluated over stored history too.
        Raises INVALID for an invalid expression or field, MALFORMED for an action that is not a
        notification method of the project, CONFLICT for an equivalent alarm of the same name, and
        RATE_LIMITED when the project has too many alarms."""
        now = self.now_ms()
        for field in ("name", "expression"):
            if getattr(wanted, field) is None:
                raise Malformed(f"alarm.{field}: is missing.")
        blank = Alarm(
            str(uuid.uuid4()), caller.project_id, "", "", "", now, now, state_since_ms=now
        )
        alarm = _changed(blank, wanted)
        await self._check_windows(alarm)
        await self._store.create(alarm, caller.user_name, self._limits.alarms_per_project)
        await self._watch(alarm)
        return alarm

    async def get(self, caller: Caller, alarm_id: str) -> Alarm:
        """The alarm with this id. Raises NOT_FOUND."""
        return await self._store.get(caller.project_id, alarm_id)

    async def find(
        self, caller: Caller, wanted: AlarmFilter, after: str | None = None, limit: int = 1 << 31
    ) -> list[Alarm]:
        """Alarms in order of creation, starting after the id ``after``."""
        return await self._store.find(caller.project_id, wanted, after, limit)

    async def update(self, caller: Caller, alarm_id: str, wanted: Definition) -> Alarm:
        """Change the given fields only. The state stays until the next evaluation."""
        old = await self._store.get(caller.project_id, alarm_id)
        alarm = replace(_changed(old, wanted), updated_ms=max(self.now_ms(), old.updated_ms))
        if wanted.rule is None and alarm.expression != old.expression:
            alarm = replace(alarm, rule="")
        if alarm.expression != old.expression:
            await self._check_windows(alarm)
        await self._store.update(alarm, caller.user_name)
        if not alarm.enabled:
            await self._watcher.forget(caller.project_id, [alarm.id])
        elif not old.enabled or alarm.expression != old.expression:
            # The state may have changed since the alarm was read.
            await self._watch(await self._store.get(caller.project_id, alarm_id))
        return await self._store.get(caller.project_id, alarm_id)

    async def set_state(self, caller: Caller, alarm_id: str, state: State) -> Alarm:
        """Set an alarm's state by hand; the next evaluation may change it again. No notification is
        sent, but the change is recorded in the history."""
        alarm = await self._store.get(caller.project_id, alarm_id)
        now = self.now_ms()
        if alarm.state is not state:
            minute = now // MINUTE_MS * MINUTE_MS
            transition = Transition(alarm.id, now, minute, alarm.state, state, True, ())
            await self._store.force(transition, caller.user_name)
            alarm = await self._store.get(caller.project_id, alarm_id)
            await self._watch(alarm)
        return alarm

    async def delete(self, caller: Caller, alarm_id: str) -> None:
        """Remove an alarm with its history and its pending notifications."""
        await self._store.delete(caller.project_id, alarm_id, caller.user_name)
        await self._watcher.forget(caller.project_id, [alarm_id])

    async def history(
        self, caller: Caller, alarm_id: str | None, before_id: int | None, limit: int
    ) -> list[HistoryEntry]:
        """Transitions of an alarm, or of the whole project, newest first."""
        return await self._store.history(caller.project_id, alarm_id, before_id, limit)

    async def explain(
        self, caller: Caller, alarm_id: str
    ) -> tuple[Alarm, Explanation, HistoryEntry | None]:
        """Why an alarm is in its state: the present values of its expression, and its last
        transition, if any. Raises CONFLICT for a disabled alarm."""
        alarm = await self._store.get(caller.project_id, alarm_id)
        if not alarm.enabled:
            raise HeliometerError(
                Code.CONFLICT,
                "The alarm is disabled: nothing watches it.",
                details='Enable it with PATCH {"alarm": {"enabled": true}}.',
            )
        explanation = await self._explainer.explain(alarm)
        last = await self._store.history(caller.project_id, alarm_id, None, 1)
        return alarm, explanation, last[0] if last else None

    async def dry_run(
        self, caller: Caller, expression: str, start_ms: int, end_ms: int | None
    ) -> DryRun:
        """What an alarm with this expression would have done on the stored measurements. Times are
        in milliseconds since the epoch; an end that is missing or in the future means now. Raises
        INVALID for an invalid expression or too much work, MALFORMED for an invalid range, and
        RATE_LIMITED while another dry run of the project is in progress: all projects share one
        thread."""
        tree = parse(expression)
        start, end = self._range(start_ms, end_ms)
        parts = len(subexpressions(tree))
        if parts * (end - start) // MINUTE_MS > EVALUATIONS:
            raise Invalid(
                f"expression: with {parts} subexpressions a dry run covers at most "
                f"{EVALUATIONS // parts // 60} hours.",
                details="Choose a shorter time, or try the subexpressions one by one.",
            )
        if caller.project_id in self._trying:
            raise HeliometerError(
                Code.RATE_LIMITED,
                "Another dry run of this project is under way.",
                details="Send the request again when that is done.",
                retry_after=5,
            )
        self._trying.add(caller.project_id)
        try:
            return await self._dry_runs.run(caller.project_id, tree, start, end)
        finally:
            self._trying.discard(caller.project_id)

    def _range(self, start_ms: int, end_ms: int | None) -> tuple[int, int]:
        now = self.now_ms()
        end = now if end_ms is None else min(now, end_ms)
        if start_ms >= end:
            raise Malformed("start_time: must be before end_time, and in the past.")
        # One more day, since measurements are removed a whole day at a time.
        if start_ms < now - (self._retention_days + 1) * DAY_MS:
            raise Malformed(
                f"start_time: measurements are kept for {self._retention_days} days, "
                "and what is older cannot be tried.",
                details="heliometer alarms test --file tries an expression on a file of any age.",
            )
        if end - start_ms > DRY_RUN_DAYS * DAY_MS:
            raise Malformed(f"start_time: a dry run covers at most {DRY_RUN_DAYS} days.")
        return start_ms, end

    async def _check_windows(self, alarm: Alarm) -> None:
        """Refuse an expression whose windows would exceed the project's share of memory."""
        kept = await self._watcher.minutes_kept(alarm.project_id)
        more = sum(depth_of(part) for part in subexpressions(parse(alarm.expression)))
        if kept + more > self._limits.alarm_minutes_per_project:
            raise HeliometerError(
                Code.RATE_LIMITED,
                f"The project's alarms keep {kept} minutes of windows and may keep "
                f"{self._limits.alarm_minutes_per_project}; this one needs {more}.",
                details="Choose shorter periods, or delete alarms that are not needed.",
                retry_after=3600,
            )

    async def _watch(self, alarm: Alarm) -> None:
        if not alarm.enabled:
            return
        try:
            await self._watcher.watch(alarm)
        except HeliometerError as error:
            # The alarm is stored, and watching it is retried; until then the log says so.
            log.error("alarm %s is not watched yet: %s", alarm.id, error.message)


def _changed(alarm: Alarm, wanted: Definition) -> Alarm:
    """The alarm with the given fields applied and checked."""
    given = dict(wanted.given())
    _check_text(given, "name", 1, NAME_LENGTH)
    _check_text(given, "description", 0, DESCRIPTION_LENGTH)
    if given.get("severity", SEVERITIES[0]) not in SEVERITIES:
        raise Invalid(
            f"alarm.severity: {str(given['severity'])[:40]!r} is none; "
            f"allowed are {', '.join(SEVERITIES)}."
        )
    for field in ("alarm_actions", "ok_actions", "undetermined_actions"):
        actions = given.get(field, ())
        if len(actions) > ACTIONS:
            raise Invalid(f"alarm.{field}: may have {ACTIONS} entries, not {len(actions)}.")
        if field in given:
            given[field] = tuple(dict.fromkeys(actions))
    if "expression" in given:
        given["normal_form"] = normal_form(parse(given["expression"]))
    return replace(alarm, **given)


def _check_text(given: Mapping[str, Any], field: str, least: int, most: int) -> None:
    text = given.get(field)
    if text is None:
        return
    if not least <= len(text) <= most:
        raise Invalid(f"alarm.{field}: must have {least} to {most} characters, not {len(text)}.")
    allowed = "\n" if field == "description" else ""
    for i, character in enumerate(text, 1):
        if not character.isprintable() and character not in allowed:
            raise Invalid(
                f"alarm.{field}: may only have printable characters; character {i} is not."
            )
    if field == "name" and not text.strip():
        raise Invalid("alarm.name: must not be blank.")
