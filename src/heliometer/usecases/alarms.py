"""Alarms: define them, see what they did and why, and try an expression on history."""

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from heliometer.alarms.engine import Explanation
from heliometer.alarms.replay import Replay
from heliometer.config import LimitSettings
from heliometer.expression import Expression, normal_form, parse
from heliometer.model.alarms import (
    ACTIONS,
    DESCRIPTION_LENGTH,
    NAME_LENGTH,
    SEVERITIES,
    Alarm,
    AlarmFilter,
    AlarmStore,
    HistoryEntry,
)
from heliometer.model.errors import Code, HeliometerError, Invalid, Malformed
from heliometer.model.identity import Caller

log = logging.getLogger(__name__)

DRY_RUN_MS = 45 * 86_400_000
"""The longest time that a dry run looks back over."""


class Watching(Protocol):
    """What watches alarms (``alarms.loop.Evaluator``)."""

    async def watch(self, alarm: Alarm) -> None: ...
    async def forget(self, alarm_ids: Iterable[str]) -> None: ...
    async def explain(self, alarm: Alarm) -> Explanation: ...
    async def dry_run(
        self, project_id: str, expression: Expression, start_ms: int, end_ms: int
    ) -> Replay: ...


@dataclass(frozen=True, slots=True)
class Definition:
    """What the owner of an alarm decides; ``None``: as it was, or the default."""

    name: str | None = None
    expression: str | None = None
    description: str | None = None
    severity: str | None = None
    enabled: bool | None = None
    alarm_actions: tuple[str, ...] | None = None
    ok_actions: tuple[str, ...] | None = None
    undetermined_actions: tuple[str, ...] | None = None

    def given(self) -> Mapping[str, Any]:
        """The fields that are decided."""
        every = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in every.items() if value is not None}


class Alarms:
    """The alarms of the caller's project (v1.1 §4.4.6; what else is here is beyond the documents).

    Everything of another project is NOT_FOUND, as if it did not exist.
    """

    def __init__(
        self,
        store: AlarmStore,
        watching: Watching,
        limits: LimitSettings,
        retention_days: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._watching = watching
        self._limits = limits
        self._kept_ms = min(DRY_RUN_MS, retention_days * 86_400_000)
        self._clock = clock

    def now_ms(self) -> int:
        """Now, in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    async def create(self, caller: Caller, wanted: Definition) -> Alarm:
        """Define an alarm; it begins UNDETERMINED and sees the history that is stored.

        Raises INVALID for a wrong expression or field, MALFORMED for an action that is no
        notification method of the project, CONFLICT for the same name and meaning, and
        RATE_LIMITED when the project has too many.
        """
        now = self.now_ms()
        for field in ("name", "expression"):
            if getattr(wanted, field) is None:
                raise Malformed(f"alarm.{field}: is missing.")
        blank = Alarm(
            str(uuid.uuid4()), caller.project_id, "", "", "", now, now, state_since_ms=now
        )
        alarm = _changed(blank, wanted)
        await self._store.create(alarm, caller.user_name, self._limits.alarms_per_project)
        await self._watch(alarm)
        return alarm

    async def get(self, caller: Caller, alarm_id: str) -> Alarm:
        """One alarm."""
        return await self._store.get(caller.project_id, alarm_id)

    async def find(
        self, caller: Caller, wanted: AlarmFilter, after: str | None = None, limit: int = 1 << 31
    ) -> list[Alarm]:
        """Alarms in order of creation, those behind the id ``after``."""
        return await self._store.find(caller.project_id, wanted, after, limit)

    async def update(self, caller: Caller, alarm_id: str, wanted: Definition) -> Alarm:
        """Change what is given and leave the rest. The state stays until the next evaluation."""
        old = await self._store.get(caller.project_id, alarm_id)
        alarm = replace(_changed(old, wanted), updated_ms=max(self.now_ms(), old.updated_ms))
        await self._store.update(alarm, caller.user_name)
        if not alarm.enabled:
            await self._watching.forget([alarm.id])
        elif not old.enabled or alarm.expression != old.expression:
            # Its state may have changed since it was read.
            await self._watch(await self._store.get(caller.project_id, alarm_id))
        return await self._store.get(caller.project_id, alarm_id)

    async def delete(self, caller: Caller, alarm_id: str) -> None:
        """Remove an alarm with its history; what waits to be sent about it is dropped."""
        await self._store.delete(caller.project_id, alarm_id, caller.user_name)
        await self._watching.forget([alarm_id])

    async def history(
        self, caller: Caller, alarm_id: str | None, before_id: int | None, limit: int
    ) -> list[HistoryEntry]:
        """Transitions of an alarm, or of the whole project, newest first."""
        return await self._store.history(caller.project_id, alarm_id, before_id, limit)

    async def explain(self, caller: Caller, alarm_id: str) -> tuple[Alarm, Explanation]:
        """Why an alarm is in its state; CONFLICT for one that is disabled."""
        alarm = await self._store.get(caller.project_id, alarm_id)
        if not alarm.enabled:
            raise HeliometerError(
                Code.CONFLICT,
                "The alarm is disabled: nothing watches it.",
                details='Enable it with PATCH {"alarm": {"enabled": true}}.',
            )
        return alarm, await self._watching.explain(alarm)

    async def dry_run(
        self, caller: Caller, expression: str, start_ms: int, end_ms: int | None
    ) -> Replay:
        """What an alarm with this expression would have done on the stored measurements.

        Raises INVALID for a wrong expression or too much to read, MALFORMED for a wrong range.
        """
        tree = parse(expression)
        now = self.now_ms()
        end = min(now, now if end_ms is None else end_ms)
        if start_ms >= end:
            raise Malformed("start_time: must be before end_time, and in the past.")
        if end - start_ms > self._kept_ms:
            raise Malformed(
                f"start_time: a dry run covers at most {self._kept_ms // 86_400_000} days."
            )
        return await self._watching.dry_run(caller.project_id, tree, start_ms, end)

    async def _watch(self, alarm: Alarm) -> None:
        if not alarm.enabled:
            return
        try:
            await self._watching.watch(alarm)
        except HeliometerError as error:
            # It is stored: the next start takes it up, and until then the log says so.
            log.error("alarm %s is not watched yet: %s", alarm.id, error.message)


def _changed(alarm: Alarm, wanted: Definition) -> Alarm:
    """The alarm with what is given, checked."""
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
