"""Alarms and their history in the resource database."""

import json

from sqlalchemy import delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.alarms.model import (
    Alarm,
    AlarmFilter,
    DeliveryFate,
    HistoryEntry,
    Outcome,
    Resumed,
    Transition,
)
from heliometer.alarms.notification_policy import ACTIONS
from heliometer.alarms.reason import reason_document
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.notifications.channels import shown_address
from heliometer.notifications.model import PENDING
from heliometer.projects.model import ALL_PROJECTS, ProjectShard
from heliometer.storage.sql.alarm_rows import alarm_row, digest, transition_of, with_actions
from heliometer.storage.sql.database import Database, chunks, milliseconds, record
from heliometer.storage.sql.evaluation import commit, resume
from heliometer.storage.sql.sealing import ADDRESS
from heliometer.storage.sql.tables import ActionRow, AlarmRow, DeliveryRow, MethodRow, TransitionRow
from heliometer.storage.sql.transactions import lock_project, locked, rerun


class SqlAlarmStore:
    """Implements ``alarms.ports.AlarmStore`` and ``EvaluationStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what owners do -----------------------------------------------------------------------

    @rerun
    async def create(self, alarm: Alarm, by: str, limit: int) -> None:
        async with self._database.write() as connection:
            await lock_project(connection, alarm.project_id)
            count = select(func.count()).where(AlarmRow.project_id == alarm.project_id)
            number = (await connection.execute(count)).scalar_one()
            if number >= limit:
                raise HeliometerError(
                    Code.RATE_LIMITED,
                    f"The project has {number} alarms and may have {limit}.",
                    details="Delete some; one alarm can watch many series.",
                    retry_after=3600,
                )
            await _check_unique(connection, alarm)
            await _check_actions(connection, alarm)
            await connection.execute(insert(AlarmRow).values(alarm_row(alarm)))
            await _put_actions(connection, alarm)
            await record(connection, milliseconds(), by, "create alarm", alarm.id, alarm.project_id)

    async def get(self, project_id: str, alarm_id: str) -> Alarm:
        async with self._database.read() as connection:
            return await _get(connection, project_id, alarm_id)

    async def find(
        self, project_id: str, wanted: AlarmFilter, after: str | None, limit: int
    ) -> list[Alarm]:
        query = select(AlarmRow.__table__).where(AlarmRow.project_id == project_id)
        if wanted.name is not None:
            name = self._database.fold(AlarmRow.name)
            query = query.where(name.contains(wanted.name.lower(), autoescape=True))
        if wanted.states:
            query = query.where(AlarmRow.state.in_([s.value for s in wanted.states]))
        if wanted.severities:
            query = query.where(AlarmRow.severity.in_(wanted.severities))
        if wanted.enabled is not None:
            query = query.where(AlarmRow.enabled.is_(wanted.enabled))
        if wanted.method_id is not None:
            with_method = select(ActionRow.alarm_id).where(ActionRow.method_id == wanted.method_id)
            query = query.where(AlarmRow.id.in_(with_method))
        async with self._database.read() as connection:
            if after is not None:
                last = await _get(connection, project_id, after)
                query = query.where(
                    tuple_(AlarmRow.created_at, AlarmRow.id) > (last.created_ms, last.id)
                )
            query = query.order_by(AlarmRow.created_at, AlarmRow.id).limit(limit)
            rows = (await connection.execute(query)).all()
            return await with_actions(connection, rows)

    @rerun
    async def update(self, alarm: Alarm, by: str) -> None:
        async with self._database.write() as connection:
            await _lock(connection, alarm.project_id, alarm.id)
            await _check_unique(connection, alarm)
            await _check_actions(connection, alarm)
            changed = alarm_row(alarm)
            for kept in ("id", "project_id", "created_at", "state", "state_since"):
                del changed[kept]
            await connection.execute(
                update(AlarmRow).where(AlarmRow.id == alarm.id).values(changed)
            )
            await connection.execute(delete(ActionRow).where(ActionRow.alarm_id == alarm.id))
            await _put_actions(connection, alarm)
            await record(connection, milliseconds(), by, "change alarm", alarm.id, alarm.project_id)

    @rerun
    async def delete(self, project_id: str, alarm_id: str, by: str) -> None:
        async with self._database.write() as connection:
            await _lock(connection, project_id, alarm_id)
            waiting = (
                select(DeliveryRow.id)
                .where(DeliveryRow.alarm_id == alarm_id, DeliveryRow.status == PENDING)
                .order_by(DeliveryRow.id)
            )
            await connection.execute(delete(DeliveryRow).where(DeliveryRow.id.in_(locked(waiting))))
            await connection.execute(delete(AlarmRow).where(AlarmRow.id == alarm_id))
            await record(connection, milliseconds(), by, "delete alarm", alarm_id, project_id)

    async def history(
        self, project_id: str, alarm_id: str | None, before_id: int | None, limit: int
    ) -> list[HistoryEntry]:
        query = select(TransitionRow.__table__).where(TransitionRow.project_id == project_id)
        async with self._database.read() as connection:
            if alarm_id is not None:
                await _get(connection, project_id, alarm_id)
                query = query.where(TransitionRow.alarm_id == alarm_id)
            if before_id is not None:
                query = query.where(TransitionRow.id < before_id)
            rows = (
                await connection.execute(query.order_by(TransitionRow.id.desc()).limit(limit))
            ).all()
            fates: dict[int, list[DeliveryFate]] = {}
            box = self._database.secrets
            ids = [row.id for row in rows]
            for chunk in chunks(ids):
                wanted = (
                    select(DeliveryRow.__table__)
                    .where(DeliveryRow.transition_id.in_(chunk))
                    .order_by(DeliveryRow.created_at, DeliveryRow.id)
                )
                for d in (await connection.execute(wanted)).all():
                    fates.setdefault(d.transition_id, []).append(
                        DeliveryFate(
                            d.id, d.method_id or "", d.type,
                            shown_address(d.type, box.open_or_empty(d.address, ADDRESS)),
                            d.status, d.reason,
                            d.attempts, d.changed_at,
                        )
                    )  # fmt: skip
        return [HistoryEntry(r.id, transition_of(r), tuple(fates.get(r.id, ()))) for r in rows]

    async def forget_history(self, before_ms: int, limit: int) -> int:
        """Remove up to ``limit`` older transitions; returns how many were removed."""
        some = locked(
            select(TransitionRow.id).where(TransitionRow.at < before_ms).limit(limit), skip=True
        )
        async with self._database.write() as connection:
            gone = await connection.execute(delete(TransitionRow).where(TransitionRow.id.in_(some)))
            return gone.rowcount

    @rerun
    async def force(self, transition: Transition, by: str) -> None:
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(AlarmRow)
                .where(AlarmRow.id == transition.alarm_id, AlarmRow.state == transition.old.value)
                .values(state=transition.new.value, state_since=transition.at_ms)
                .returning(AlarmRow.project_id)
            )
            row = changed.first()
            if row is None:
                raise HeliometerError(
                    Code.CONFLICT, "The alarm's state has just changed.", details="Look again."
                )
            await connection.execute(
                insert(TransitionRow).values(
                    alarm_id=transition.alarm_id,
                    project_id=row.project_id,
                    at=transition.at_ms,
                    old=transition.old.value,
                    new=transition.new.value,
                    reason=json.dumps(reason_document(transition)),
                )
            )
            await record(
                connection, milliseconds(), by, "set alarm state", transition.alarm_id,
                row.project_id,
            )  # fmt: skip

    # -- evaluation ---------------------------------------------------------------------------

    @rerun
    async def resume(
        self, changed_since_ms: int, shard: ProjectShard = ALL_PROJECTS, *, from_ms: int = 0
    ) -> Resumed:
        async with self._database.write() as connection:
            return await resume(connection, changed_since_ms, shard, from_ms)

    @rerun
    async def commit(
        self, outcome: Outcome, shard: ProjectShard = ALL_PROJECTS, fencing_token: int | None = None
    ) -> list[str]:
        async with self._database.write() as connection:
            return await commit(connection, outcome, shard, fencing_token)


async def _get(connection: AsyncConnection, project_id: str, alarm_id: str) -> Alarm:
    wanted = select(AlarmRow.__table__).where(
        AlarmRow.id == alarm_id, AlarmRow.project_id == project_id
    )
    rows = (await connection.execute(wanted)).all()
    if not rows:
        raise HeliometerError(Code.NOT_FOUND, f"There is no alarm {alarm_id[:60]!r}.")
    return (await with_actions(connection, rows))[0]


async def _lock(connection: AsyncConnection, project_id: str, alarm_id: str) -> None:
    """Lock the alarm, and the project's number of alarms, until the transaction ends. Raises
    NOT_FOUND."""
    await lock_project(connection, project_id)
    wanted = select(AlarmRow.id).where(AlarmRow.id == alarm_id, AlarmRow.project_id == project_id)
    if (await connection.execute(locked(wanted))).first() is None:
        raise HeliometerError(Code.NOT_FOUND, f"There is no alarm {alarm_id[:60]!r}.")


async def _check_unique(connection: AsyncConnection, alarm: Alarm) -> None:
    wanted = select(AlarmRow.id).where(
        AlarmRow.project_id == alarm.project_id,
        AlarmRow.name == alarm.name,
        AlarmRow.normal_digest == digest(alarm.normal_form),
        AlarmRow.id != alarm.id,
    )
    other = (await connection.execute(wanted)).scalar_one_or_none()
    if other is not None:
        raise HeliometerError(
            Code.CONFLICT,
            "An equivalent alarm already exists.",
            details=f"It is {other}.",
        )


async def _check_actions(connection: AsyncConnection, alarm: Alarm) -> None:
    named = {i for name in ACTIONS for i in getattr(alarm, name)}
    known: set[str] = set()
    for chunk in chunks(named):
        wanted = select(MethodRow.id).where(
            MethodRow.id.in_(chunk), MethodRow.project_id == alarm.project_id
        )
        known.update((await connection.execute(wanted)).scalars())
    for name in ACTIONS:
        for i, method_id in enumerate(getattr(alarm, name)):
            if method_id not in known:
                raise Malformed(
                    f"{name}[{i}]: there is no notification method {method_id[:60]!r}.",
                    details="GET notification-methods lists those of the project.",
                )


async def _put_actions(connection: AsyncConnection, alarm: Alarm) -> None:
    rows = [
        {"alarm_id": alarm.id, "state": state.value, "position": i, "method_id": method_id}
        for name, state in ACTIONS.items()
        for i, method_id in enumerate(getattr(alarm, name))
    ]
    if rows:
        await connection.execute(insert(ActionRow), rows)
