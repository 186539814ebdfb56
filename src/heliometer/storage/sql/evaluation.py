"""The transactions of evaluators: taking over a shard, and committing decisions."""

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import ColumnElement

from heliometer.alarms.model import Alarm, Outcome, Resumed, State, Transition
from heliometer.alarms.notification_policy import (
    Recipient,
    Recorded,
    deliveries,
    methods_to_notify,
)
from heliometer.alarms.ports import Superseded
from heliometer.alarms.reason import reason_document
from heliometer.alarms.transitions import Applicable, applicable, is_change
from heliometer.projects.model import ProjectShard
from heliometer.storage.sql.alarm_rows import alarm_of, with_actions
from heliometer.storage.sql.database import chunks
from heliometer.storage.sql.deliveries import delivery_row
from heliometer.storage.sql.tables import (
    AddressRow,
    AlarmRow,
    DeliveryRow,
    EvaluationRow,
    MethodRow,
    ProjectRow,
    TransitionRow,
)
from heliometer.storage.sql.transactions import locked, upsert

CHANGES = 101
"""How many of an alarm's latest changes are read to detect flapping."""


# -- taking over ----------------------------------------------------------------------------------


async def resume(
    connection: AsyncConnection, changed_since_ms: int, shard: ProjectShard, from_ms: int
) -> Resumed:
    """See ``EvaluationStore.resume``."""
    # First: after this, no commit of a former owner is running, and no other can begin.
    last = await _take_over(connection, shard, from_ms)
    projects = None
    if shard.of > 1:
        every = await connection.execute(select(ProjectRow.id))
        projects = list(filter(shard.holds, every.scalars()))
    alarms = await _enabled(connection, projects)
    changes: dict[str, list[int]] = {}
    for row in await _transitions_since(connection, changed_since_ms, projects):
        if is_change(State(row.old), State(row.new)):
            changes.setdefault(row.alarm_id, []).append(row.at)
    return Resumed(
        [alarm_of(row, {}) for row in alarms],
        {alarm_id: tuple(times[-CHANGES:]) for alarm_id, times in changes.items()},
        last.checkpoint,
        last.evaluated_at,
        last.epoch,
    )


async def _take_over(connection: AsyncConnection, shard: ProjectShard, from_ms: int) -> Row[Any]:
    """The state that the shard's last owner left, with a new fencing token."""
    change = upsert(
        connection,
        EvaluationRow,
        {"id": shard.number + 1},
        {"epoch": EvaluationRow.epoch + 1},
        new={"epoch": 1, "evaluated_at": from_ms, "checkpoint": b""},
    ).returning(*EvaluationRow.__table__.columns)
    return (await connection.execute(change)).one()


async def _enabled(connection: AsyncConnection, projects: list[str] | None) -> list[Row[Any]]:
    wanted = select(AlarmRow.__table__).where(AlarmRow.enabled)
    found: list[Row[Any]] = []
    for condition in _of_projects(projects, AlarmRow.project_id):
        found += (await connection.execute(wanted.where(*condition))).all()
    return found


async def _transitions_since(
    connection: AsyncConnection, since_ms: int, projects: list[str] | None
) -> list[Row[str, int, str, str]]:
    """Newer transitions; those of any one alarm are in order."""
    wanted = (
        select(TransitionRow.alarm_id, TransitionRow.at, TransitionRow.old, TransitionRow.new)
        .where(TransitionRow.at > since_ms)
        .order_by(TransitionRow.id)
    )
    found: list[Row[str, int, str, str]] = []
    for condition in _of_projects(projects, TransitionRow.project_id):
        found += (await connection.execute(wanted.where(*condition))).all()
    return found


def _of_projects(
    projects: list[str] | None, column: InstrumentedAttribute[str]
) -> Iterable[tuple[ColumnElement[bool], ...]]:
    """Conditions that together select the rows of these projects; ``None`` selects all."""
    return [()] if projects is None else [(column.in_(chunk),) for chunk in chunks(projects)]


# -- committing -----------------------------------------------------------------------------------


async def commit(
    connection: AsyncConnection, outcome: Outcome, shard: ProjectShard, fencing_token: int | None
) -> list[str]:
    """See ``EvaluationStore.commit``."""
    rejected: list[str] = []
    mine = EvaluationRow.id == shard.number + 1
    if fencing_token is not None:
        # Locked: a take-over waits for this commit, or this commit sees the take-over.
        wanted = locked(select(EvaluationRow.epoch).where(mine))
        newest = (await connection.execute(wanted)).scalar_one_or_none()
        if newest != fencing_token:
            raise Superseded(f"shard {shard.number} of {shard.of} has another owner")
    if outcome.transitions:
        rejected = await _commit_transitions(connection, outcome.transitions)
    values: dict[str, Any] = {}
    if outcome.evaluated_ms is not None:
        values["evaluated_at"] = outcome.evaluated_ms
    if outcome.checkpoint is not None:
        values["checkpoint"] = outcome.checkpoint
    if values:
        changed = await connection.execute(update(EvaluationRow).where(mine).values(values))
        if changed.rowcount == 0:
            new = {"id": shard.number + 1, "evaluated_at": 0, "checkpoint": b"", **values}
            await connection.execute(insert(EvaluationRow).values(new))
    return rejected


async def _commit_transitions(
    connection: AsyncConnection, transitions: Sequence[Transition]
) -> list[str]:
    """Record the transitions that apply, with their notifications; returns the alarms of those that
    do not."""
    alarms, projects = await _lock_alarms(connection, {t.alarm_id for t in transitions})
    found = applicable(transitions, alarms)
    if found.transitions:
        # The alarms are locked, or this is the only writer: the values read still hold.
        await _set_states(connection, found)
        ids = await _add_history(connection, found)
        recorded = [
            Recorded(number, transition, alarm, *projects[alarm.id])
            for (transition, alarm), number in zip(found.transitions, ids, strict=True)
        ]
        await _fill_outbox(connection, recorded)
    return list(found.rejected)


async def _lock_alarms(
    connection: AsyncConnection, alarm_ids: set[str]
) -> tuple[list[Alarm], dict[str, tuple[str, bool]]]:
    """The enabled alarms among these, each with its project's name and whether that is enabled."""
    alarms: list[Alarm] = []
    projects: dict[str, tuple[str, bool]] = {}
    for chunk in chunks(sorted(alarm_ids)):
        wanted = (
            select(
                AlarmRow.__table__,
                ProjectRow.name.label("project_name"),
                ProjectRow.enabled.label("project_enabled"),
            )
            .join(ProjectRow, ProjectRow.id == AlarmRow.project_id)
            .where(AlarmRow.id.in_(chunk), AlarmRow.enabled)
            .order_by(AlarmRow.id)
            .with_for_update(key_share=True, of=AlarmRow)
        )
        rows = (await connection.execute(wanted)).all()
        alarms += await with_actions(connection, rows)
        projects.update((row.id, (row.project_name, row.project_enabled)) for row in rows)
    return alarms, projects


async def _set_states(connection: AsyncConnection, found: Applicable) -> None:
    await connection.execute(
        update(AlarmRow.__table__)  # type: ignore[arg-type]
        .where(AlarmRow.id == bindparam("key"))
        .values(state=bindparam("to"), state_since=bindparam("at")),
        [{"key": i, "to": t.new.value, "at": t.at_ms} for i, t in found.final().items()],
    )


async def _add_history(connection: AsyncConnection, found: Applicable) -> list[int]:
    added = await connection.execute(
        insert(TransitionRow).returning(TransitionRow.id, sort_by_parameter_order=True),
        [
            {
                "alarm_id": t.alarm_id,
                "project_id": alarm.project_id,
                "at": t.at_ms,
                "old": t.old.value,
                "new": t.new.value,
                "reason": json.dumps(reason_document(t), ensure_ascii=False),
            }
            for t, alarm in found.transitions
        ],
    )
    return [row.id for row in added]


async def _fill_outbox(connection: AsyncConnection, recorded: Sequence[Recorded]) -> None:
    wanted = {i for each in recorded for i in methods_to_notify(each.transition, each.alarm)}
    recipients = await _lock_recipients(connection, wanted)
    new = deliveries(recorded, recipients, lambda: str(uuid.uuid4()))
    if new:
        await connection.execute(insert(DeliveryRow), [delivery_row(d) for d in new])


async def _lock_recipients(
    connection: AsyncConnection, method_ids: set[str]
) -> dict[str, Recipient]:
    methods: list[Row[Any]] = []
    for chunk in chunks(sorted(method_ids)):
        query = (
            select(MethodRow.__table__)
            .where(MethodRow.id.in_(chunk))
            .order_by(MethodRow.id)
            # Deleting a method waits, and then finds what is queued here; other changes go ahead.
            .with_for_update(read=True, key_share=True)
        )
        methods += (await connection.execute(query)).all()
    verified: set[tuple[str, str, str]] = set()
    for chunk in chunks(sorted({m.address for m in methods})):
        proved = select(AddressRow.project_id, AddressRow.type, AddressRow.address).where(
            AddressRow.address.in_(chunk), AddressRow.verified
        )
        verified.update((p, t, a) for p, t, a in (await connection.execute(proved)).all())
    return {
        m.id: Recipient(m.id, m.type, m.address, (m.project_id, m.type, m.address) in verified)
        for m in methods
    }
