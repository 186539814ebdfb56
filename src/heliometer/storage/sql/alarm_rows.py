"""Converts between rows and alarms or transitions."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.alarms.model import Alarm, State, Transition
from heliometer.alarms.notification_policy import ACTIONS
from heliometer.alarms.reason import findings_of
from heliometer.storage.sql.database import chunks
from heliometer.storage.sql.tables import ActionRow


async def with_actions(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Alarm]:
    actions: dict[str, dict[str, list[str]]] = {}
    for chunk in chunks([row.id for row in rows]):
        wanted = (
            select(ActionRow.alarm_id, ActionRow.state, ActionRow.method_id)
            .where(ActionRow.alarm_id.in_(chunk))
            .order_by(ActionRow.position)
        )
        for alarm_id, state, method_id in (await connection.execute(wanted)).all():
            actions.setdefault(alarm_id, {}).setdefault(state, []).append(method_id)
    return [alarm_of(row, actions.get(row.id, {})) for row in rows]


def alarm_row(alarm: Alarm) -> dict[str, Any]:
    return {
        "id": alarm.id,
        "project_id": alarm.project_id,
        "name": alarm.name,
        "description": alarm.description,
        "severity": alarm.severity,
        "expression": alarm.expression,
        "normal_form": alarm.normal_form,
        "normal_digest": digest(alarm.normal_form),
        "enabled": alarm.enabled,
        "state": alarm.state.value,
        "state_since": alarm.state_since_ms,
        "created_at": alarm.created_ms,
        "updated_at": alarm.updated_ms,
        "rule": alarm.rule,
    }


def alarm_of(row: Row[Any], actions: Mapping[str, Sequence[str]]) -> Alarm:
    return Alarm(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        expression=row.expression,
        normal_form=row.normal_form,
        created_ms=row.created_at,
        updated_ms=row.updated_at,
        state=State(row.state),
        state_since_ms=row.state_since,
        description=row.description,
        severity=row.severity,
        enabled=row.enabled,
        rule=row.rule,
        **{name: tuple(actions.get(state.value, ())) for name, state in ACTIONS.items()},
    )


def transition_of(row: Row[Any]) -> Transition:
    reason = json.loads(row.reason)
    return Transition(
        row.alarm_id, row.at, reason["minute_ms"], State(row.old), State(row.new),
        reason["at_once"], findings_of(reason),
    )  # fmt: skip


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
