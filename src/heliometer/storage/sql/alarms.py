"""Alarms, their history and what transitions queue, in the resource database."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import ColumnElement

from heliometer.alarms.model import (
    Alarm,
    AlarmFilter,
    DeliveryFate,
    Finding,
    HistoryEntry,
    Outcome,
    Resumed,
    SeriesValue,
    State,
    Superseded,
    Transition,
    WindowValue,
    reason_document,
)
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.notifications.model import ALARM_MESSAGE, PENDING, VERIFIED_TYPES, WITHHELD
from heliometer.projects.model import ALL_PROJECTS, ProjectShard
from heliometer.storage.sql.database import Database, chunks, milliseconds, record
from heliometer.storage.sql.races import lock_project, locked, rerun, upsert
from heliometer.storage.sql.tables import (
    ActionRow,
    AddressRow,
    AlarmRow,
    DeliveryRow,
    EvaluationRow,
    MethodRow,
    ProjectRow,
    TransitionRow,
)

CHANGES = 101
"""Latest changes of an alarm that are looked at for flapping."""
_ACTIONS = {
    "alarm_actions": State.ALARM,
    "ok_actions": State.OK,
    "undetermined_actions": State.UNDETERMINED,
}


class SqlAlarmStore:
    """Implements ``model.alarms.AlarmStore``."""

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
            await connection.execute(insert(AlarmRow).values(_row(alarm)))
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
            return await _with_actions(connection, rows)

    @rerun
    async def update(self, alarm: Alarm, by: str) -> None:
        async with self._database.write() as connection:
            await _lock(connection, alarm.project_id, alarm.id)
            await _check_unique(connection, alarm)
            await _check_actions(connection, alarm)
            changed = _row(alarm)
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
                            d.id, d.method_id or "", d.type, d.address, d.status, d.reason,
                            d.attempts, d.changed_at,
                        )
                    )  # fmt: skip
        return [HistoryEntry(r.id, _transition(r), tuple(fates.get(r.id, ()))) for r in rows]

    async def forget_history(self, before_ms: int, limit: int) -> int:
        """Remove up to ``limit`` transitions that are older; say how many went."""
        some = locked(
            select(TransitionRow.id).where(TransitionRow.at < before_ms).limit(limit), skip=True
        )
        async with self._database.write() as connection:
            gone = await connection.execute(delete(TransitionRow).where(TransitionRow.id.in_(some)))
            return gone.rowcount

    # -- what the evaluator does --------------------------------------------------------------

    @rerun
    async def commit(
        self, outcome: Outcome, share: ProjectShard = ALL_PROJECTS, epoch: int | None = None
    ) -> list[str]:
        left_out: list[str] = []
        mine = EvaluationRow.id == share.number + 1
        async with self._database.write() as connection:
            if epoch is not None:
                # Locked: who takes over waits for this commit, or this one sees that somebody did.
                wanted = locked(select(EvaluationRow.epoch).where(mine))
                newest = (await connection.execute(wanted)).scalar_one_or_none()
                if newest != epoch:
                    raise Superseded(f"share {share.number} of {share.of} has another owner")
            if outcome.transitions:
                left_out = await _commit_transitions(connection, outcome.transitions)
            values: dict[str, Any] = {}
            if outcome.evaluated_ms is not None:
                values["evaluated_at"] = outcome.evaluated_ms
            if outcome.checkpoint is not None:
                values["checkpoint"] = outcome.checkpoint
            if values:
                changed = await connection.execute(update(EvaluationRow).where(mine).values(values))
                if changed.rowcount == 0:
                    await connection.execute(
                        insert(EvaluationRow).values(
                            {"id": share.number + 1, "evaluated_at": 0, "checkpoint": b"", **values}
                        )
                    )
        return left_out

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

    @rerun
    async def resume(
        self, changed_since_ms: int, share: ProjectShard = ALL_PROJECTS, *, from_ms: int = 0
    ) -> Resumed:
        async with self._database.write() as connection:
            # First: after it, no earlier owner's commit is under way, nor will there be another.
            last = await _take_over(connection, share, from_ms)
            projects = None
            if share.of > 1:
                every = await connection.execute(select(ProjectRow.id))
                projects = list(filter(share.holds, every.scalars()))
            alarms = await _enabled(connection, projects)
            recent = await _changes(connection, changed_since_ms, projects)
        changes: dict[str, list[int]] = {}
        for alarm_id, at in recent:
            changes.setdefault(alarm_id, []).append(at)
        return Resumed(
            [_alarm(row, {}) for row in alarms],
            {alarm_id: tuple(times[-CHANGES:]) for alarm_id, times in changes.items()},
            last.checkpoint,
            last.evaluated_at,
            last.epoch,
        )


async def _take_over(connection: AsyncConnection, share: ProjectShard, from_ms: int) -> Row[Any]:
    """What the share's owner left behind, with a new epoch."""
    change = upsert(
        connection,
        EvaluationRow,
        {"id": share.number + 1},
        {"epoch": EvaluationRow.epoch + 1},
        new={"epoch": 1, "evaluated_at": from_ms, "checkpoint": b""},
    ).returning(*EvaluationRow.__table__.columns)
    return (await connection.execute(change)).one()


async def _enabled(connection: AsyncConnection, projects: list[str] | None) -> list[Row[Any]]:
    wanted = select(AlarmRow.__table__).where(AlarmRow.enabled)
    found: list[Row[Any]] = []
    for part in _parts(projects, AlarmRow.project_id):
        found += (await connection.execute(wanted.where(*part))).all()
    return found


async def _changes(
    connection: AsyncConnection, since_ms: int, projects: list[str] | None
) -> list[Row[str, int]]:
    """Alarms and times of their changes, each alarm's in order."""
    wanted = (
        select(TransitionRow.alarm_id, TransitionRow.at)
        .where(TransitionRow.at > since_ms)
        # Moves between these two are no changes.
        .where(
            ~(
                (TransitionRow.old == State.FLAPPING.value)
                & (TransitionRow.new == State.ALARM.value)
            )
        )
        .order_by(TransitionRow.id)
    )
    found: list[Row[str, int]] = []
    for part in _parts(projects, TransitionRow.project_id):
        found += (await connection.execute(wanted.where(*part))).all()
    return found


def _parts(
    projects: list[str] | None, column: InstrumentedAttribute[str]
) -> Iterable[tuple[ColumnElement[bool], ...]]:
    """Conditions that divide what belongs to these projects; ``None``: to all."""
    return [()] if projects is None else [(column.in_(chunk),) for chunk in chunks(projects)]


async def _commit_transitions(
    connection: AsyncConnection, transitions: Sequence[Transition]
) -> list[str]:
    """Record what still applies and is not recorded yet; the ids of alarms whose transitions do not
    apply."""
    alarms: dict[str, Alarm] = {}
    names: dict[str, str] = {}
    for chunk in chunks(sorted({t.alarm_id for t in transitions})):
        wanted = (
            select(AlarmRow.__table__, ProjectRow.name.label("project_name"))
            .join(ProjectRow, ProjectRow.id == AlarmRow.project_id)
            .where(AlarmRow.id.in_(chunk), AlarmRow.enabled)
            .order_by(AlarmRow.id)
            .with_for_update(key_share=True, of=AlarmRow)
        )
        rows = (await connection.execute(wanted)).all()
        alarms.update((a.id, a) for a in await _with_actions(connection, rows))
        names.update((row.id, row.project_name) for row in rows)
    left_out: list[str] = []
    kept: list[tuple[Transition, Alarm]] = []
    state = {a.id: a.state for a in alarms.values()}
    since: dict[str, int] = {}
    # Where an alarm is in a state since the very time that a transition brought it there, that was
    # committed before, and with it the alarm's earlier ones of the same outcome.
    reached = {(a.id, a.state, a.state_since_ms) for a in alarms.values()}
    done = {
        t.alarm_id: i for i, t in enumerate(transitions) if (t.alarm_id, t.new, t.at_ms) in reached
    }
    for i, transition in enumerate(transitions):
        if i <= done.get(transition.alarm_id, -1):
            continue
        if state.get(transition.alarm_id) is not transition.old:
            left_out.append(transition.alarm_id)
            continue
        kept.append((transition, alarms[transition.alarm_id]))
        state[transition.alarm_id] = transition.new
        since[transition.alarm_id] = transition.at_ms
    if not kept:
        return left_out
    # The alarms are locked, or this is the only writer: what was read still holds.
    await connection.execute(
        update(AlarmRow.__table__)  # type: ignore[arg-type]
        .where(AlarmRow.id == bindparam("key"))
        .values(state=bindparam("to"), state_since=bindparam("at")),
        [{"key": i, "to": state[i].value, "at": at} for i, at in since.items()],
    )
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
            for t, alarm in kept
        ],
    )
    ids = [row.id for row in added]
    await _queue(connection, kept, ids, names)
    return left_out


async def _queue(
    connection: AsyncConnection,
    kept: Sequence[tuple[Transition, Alarm]],
    ids: Sequence[int],
    project_names: Mapping[str, str],
) -> None:
    """The outbox rows of transitions."""
    actions: dict[State, str] = {s: name for name, s in _ACTIONS.items()}
    wanted = [
        (transition, alarm, number, method_id)
        for (transition, alarm), number in zip(kept, ids, strict=True)
        if transition.new in actions
        for method_id in getattr(alarm, actions[transition.new])
    ]
    methods: dict[str, Row[Any]] = {}
    for chunk in chunks(sorted({method_id for *_, method_id in wanted})):
        query = (
            select(MethodRow.__table__)
            .where(MethodRow.id.in_(chunk))
            .order_by(MethodRow.id)
            # Who deletes one waits, and then finds what is queued here; others change it freely.
            .with_for_update(read=True, key_share=True)
        )
        methods.update((row.id, row) for row in (await connection.execute(query)).all())
    verified: set[tuple[str, str, str]] = set()
    for chunk in chunks({m.address for m in methods.values() if m.type in VERIFIED_TYPES}):
        proved = select(AddressRow.project_id, AddressRow.type, AddressRow.address).where(
            AddressRow.address.in_(chunk), AddressRow.verified
        )
        verified.update((p, t, a) for p, t, a in (await connection.execute(proved)).all())
    rows = []
    for transition, alarm, number, method_id in wanted:
        method = methods.get(method_id)
        if method is None:
            continue
        status, reason = PENDING, ""
        key = method.project_id, method.type, method.address
        if transition.old is State.FLAPPING and transition.new is not State.ALARM:
            status, reason = WITHHELD, "the alarm is flapping"
        elif method.type in VERIFIED_TYPES and key not in verified:
            status, reason = WITHHELD, "the address is not verified"
        rows.append(
            {
                "id": str(uuid.uuid4()),
                "kind": ALARM_MESSAGE,
                "project_id": alarm.project_id,
                "type": method.type,
                "address": method.address,
                "method_id": method_id,
                "alarm_id": alarm.id,
                "transition_id": number,
                "status": status,
                "reason": reason,
                "attempts": 0,
                "created_at": transition.at_ms,
                "next_attempt_at": transition.at_ms,
                "leased_until": 0,
                "changed_at": transition.at_ms,
                "started_at": transition.at_ms,
                "payload": json.dumps(
                    {
                        "alarm_id": alarm.id,
                        "name": alarm.name,
                        "description": alarm.description,
                        "severity": alarm.severity,
                        "expression": alarm.expression,
                        "project_name": project_names.get(alarm.id, ""),
                        "old": transition.old.value,
                        "new": transition.new.value,
                        "at_ms": transition.at_ms,
                        "reason": reason_document(transition),
                    },
                    ensure_ascii=False,
                ),
            }
        )
    if rows:
        await connection.execute(insert(DeliveryRow), rows)


async def _get(connection: AsyncConnection, project_id: str, alarm_id: str) -> Alarm:
    wanted = select(AlarmRow.__table__).where(
        AlarmRow.id == alarm_id, AlarmRow.project_id == project_id
    )
    rows = (await connection.execute(wanted)).all()
    if not rows:
        raise HeliometerError(Code.NOT_FOUND, f"There is no alarm {alarm_id[:60]!r}.")
    return (await _with_actions(connection, rows))[0]


async def _lock(connection: AsyncConnection, project_id: str, alarm_id: str) -> None:
    """Until the transaction ends, nobody else changes the alarm, nor the project's number of them.
    Raises NOT_FOUND."""
    await lock_project(connection, project_id)
    wanted = select(AlarmRow.id).where(AlarmRow.id == alarm_id, AlarmRow.project_id == project_id)
    if (await connection.execute(locked(wanted))).first() is None:
        raise HeliometerError(Code.NOT_FOUND, f"There is no alarm {alarm_id[:60]!r}.")


async def _with_actions(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Alarm]:
    actions: dict[str, dict[str, list[str]]] = {}
    for chunk in chunks([row.id for row in rows]):
        wanted = (
            select(ActionRow.alarm_id, ActionRow.state, ActionRow.method_id)
            .where(ActionRow.alarm_id.in_(chunk))
            .order_by(ActionRow.position)
        )
        for alarm_id, state, method_id in (await connection.execute(wanted)).all():
            actions.setdefault(alarm_id, {}).setdefault(state, []).append(method_id)
    return [_alarm(row, actions.get(row.id, {})) for row in rows]


async def _check_unique(connection: AsyncConnection, alarm: Alarm) -> None:
    wanted = select(AlarmRow.id).where(
        AlarmRow.project_id == alarm.project_id,
        AlarmRow.name == alarm.name,
        AlarmRow.normal_digest == _digest(alarm.normal_form),
        AlarmRow.id != alarm.id,
    )
    other = (await connection.execute(wanted)).scalar_one_or_none()
    if other is not None:
        raise HeliometerError(
            Code.CONFLICT,
            "An alarm of this name with an expression of this meaning exists already.",
            details=f"It is {other}.",
        )


async def _check_actions(connection: AsyncConnection, alarm: Alarm) -> None:
    named = {i for name in _ACTIONS for i in getattr(alarm, name)}
    known: set[str] = set()
    for chunk in chunks(named):
        wanted = select(MethodRow.id).where(
            MethodRow.id.in_(chunk), MethodRow.project_id == alarm.project_id
        )
        known.update((await connection.execute(wanted)).scalars())
    for name in _ACTIONS:
        for i, method_id in enumerate(getattr(alarm, name)):
            if method_id not in known:
                raise Malformed(
                    f"{name}[{i}]: there is no notification method {method_id[:60]!r}.",
                    details="GET notification-methods lists those of the project.",
                )


async def _put_actions(connection: AsyncConnection, alarm: Alarm) -> None:
    rows = [
        {"alarm_id": alarm.id, "state": state.value, "position": i, "method_id": method_id}
        for name, state in _ACTIONS.items()
        for i, method_id in enumerate(getattr(alarm, name))
    ]
    if rows:
        await connection.execute(insert(ActionRow), rows)


def _row(alarm: Alarm) -> dict[str, Any]:
    return {
        "id": alarm.id,
        "project_id": alarm.project_id,
        "name": alarm.name,
        "description": alarm.description,
        "severity": alarm.severity,
        "expression": alarm.expression,
        "normal_form": alarm.normal_form,
        "normal_digest": _digest(alarm.normal_form),
        "enabled": alarm.enabled,
        "state": alarm.state.value,
        "state_since": alarm.state_since_ms,
        "created_at": alarm.created_ms,
        "updated_at": alarm.updated_ms,
        "rule": alarm.rule,
    }


def _alarm(row: Row[Any], actions: Mapping[str, Sequence[str]]) -> Alarm:
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
        **{name: tuple(actions.get(state.value, ())) for name, state in _ACTIONS.items()},
    )


def _transition(row: Row[Any]) -> Transition:
    reason = json.loads(row.reason)
    findings = tuple(
        Finding(
            text=f["text"],
            truth=f["truth"],
            function=f["function"],
            operator=f["operator"],
            threshold=f["threshold"],
            windows=tuple(WindowValue(*w) for w in f["windows"]),
            matching=f["matching"],
            series=tuple(SeriesValue(*s) for s in f["series"]),
        )
        for f in reason["findings"]
    )
    return Transition(
        row.alarm_id, row.at, reason["minute_ms"], State(row.old), State(row.new),
        reason["at_once"], findings,
    )  # fmt: skip


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
