"""Notification methods, addresses, validation codes, and the outbox, in the resource database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Row,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased
from sqlalchemy.sql import ColumnElement

from heliometer.core.errors import Code, HeliometerError
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    CODE_MESSAGE,
    DELIVERED,
    FAILED,
    IN_PROGRESS,
    PENDING,
    VERIFIED,
    WITHHELD,
    Delivery,
    DeliveryFilter,
    NotificationAddress,
    NotificationMethod,
    ValidationCode,
)
from heliometer.storage.sql.database import Database, chunks, milliseconds, record
from heliometer.storage.sql.deliveries import delivery_of, delivery_row
from heliometer.storage.sql.tables import AddressRow, CodeRow, DeliveryRow, MethodRow
from heliometer.storage.sql.transactions import lock_project, locked, rerun


class SqlNotificationStore:
    """Implements ``model.notifications.NotificationStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- methods ------------------------------------------------------------------------------

    @rerun
    async def create_method(self, method: NotificationMethod, by: str, limit: int) -> None:
        async with self._database.write() as connection:
            await lock_project(connection, method.project_id)
            await _check_number(connection, MethodRow, method.project_id, limit)
            await connection.execute(
                insert(MethodRow).values(
                    id=method.id,
                    project_id=method.project_id,
                    name=method.name,
                    type=method.type,
                    address=method.address,
                    secret=method.secret,
                    created_at=method.created_ms,
                )
            )
            await record(
                connection, milliseconds(), by, "create notification method", method.id,
                method.project_id,
            )  # fmt: skip

    async def get_method(self, project_id: str, method_id: str) -> NotificationMethod:
        async with self._database.read() as connection:
            return await _method(connection, project_id, method_id)

    async def list_methods(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[NotificationMethod]:
        query = select(MethodRow.__table__).where(MethodRow.project_id == project_id)
        async with self._database.read() as connection:
            if after is not None:
                last = await _method(connection, project_id, after)
                query = query.where(
                    tuple_(MethodRow.created_at, MethodRow.id) > (last.created_ms, last.id)
                )
            query = query.order_by(MethodRow.created_at, MethodRow.id).limit(limit)
            return [_to_method(row) for row in (await connection.execute(query)).all()]

    @rerun
    async def delete_method(self, project_id: str, method_id: str, by: str) -> None:
        now = milliseconds()
        async with self._database.write() as connection:
            await _lock_method(connection, project_id, method_id)
            waiting = (
                select(DeliveryRow.id)
                .where(DeliveryRow.method_id == method_id, DeliveryRow.status == PENDING)
                .order_by(DeliveryRow.id)
            )
            await connection.execute(
                update(DeliveryRow)
                .where(DeliveryRow.id.in_(locked(waiting)))
                .values(
                    status=WITHHELD, reason="the notification method was deleted", changed_at=now
                )
            )
            await connection.execute(delete(MethodRow).where(MethodRow.id == method_id))
            await record(connection, now, by, "delete notification method", method_id, project_id)

    # -- addresses ----------------------------------------------------------------------------

    @rerun
    async def put_address(
        self, address: NotificationAddress, by: str, limit: int
    ) -> NotificationAddress:
        same = and_(
            AddressRow.project_id == address.project_id,
            AddressRow.type == address.type,
            AddressRow.address == address.address,
        )
        async with self._database.write() as connection:
            await lock_project(connection, address.project_id)
            found = (await connection.execute(select(AddressRow.__table__).where(same))).first()
            if found is None:
                await _check_number(connection, AddressRow, address.project_id, limit)
                await connection.execute(
                    insert(AddressRow).values(
                        id=address.id,
                        project_id=address.project_id,
                        type=address.type,
                        address=address.address,
                        name=address.name,
                        verified=False,
                        created_at=address.created_ms,
                        expires_at=address.expires_ms,
                    )
                )
                await record(
                    connection, milliseconds(), by, "create notification address", address.id,
                    address.project_id,
                )  # fmt: skip
            else:
                await connection.execute(
                    update(AddressRow)
                    .where(AddressRow.id == found.id)
                    .values(name=address.name, expires_at=address.expires_ms)
                )
            stored = (await connection.execute(select(AddressRow.__table__).where(same))).one()
            return _to_address(stored)

    async def get_address(self, project_id: str, address_id: str) -> NotificationAddress:
        async with self._database.read() as connection:
            return await _address(connection, project_id, address_id)

    async def list_addresses(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> list[NotificationAddress]:
        query = select(AddressRow.__table__).where(AddressRow.project_id == project_id)
        async with self._database.read() as connection:
            if after is not None:
                last = await _address(connection, project_id, after)
                query = query.where(
                    tuple_(AddressRow.created_at, AddressRow.id) > (last.created_ms, last.id)
                )
            query = query.order_by(AddressRow.created_at, AddressRow.id).limit(limit)
            return [_to_address(row) for row in (await connection.execute(query)).all()]

    async def find_address(self, address_id: str) -> NotificationAddress | None:
        """An address of any project, for the notifier."""
        wanted = select(AddressRow.__table__).where(AddressRow.id == address_id)
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        return _to_address(row) if row else None

    @rerun
    async def delete_address(self, project_id: str, address_id: str, by: str) -> None:
        async with self._database.write() as connection:
            await _address(connection, project_id, address_id)
            await connection.execute(delete(AddressRow).where(AddressRow.id == address_id))
            await record(
                connection, milliseconds(), by, "delete notification address", address_id,
                project_id,
            )  # fmt: skip

    # -- codes --------------------------------------------------------------------------------

    @rerun
    async def add_code(self, code: ValidationCode, keep: int) -> bool:
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(AddressRow)
                .where(AddressRow.id == code.address_id, AddressRow.verified.is_(False))
                .values(expires_at=code.expires_ms)
            )
            if changed.rowcount == 0:
                return False
            await connection.execute(
                insert(CodeRow).values(
                    address_id=code.address_id,
                    short_hash=code.short_hash,
                    long_digest=code.long_digest,
                    expires_at=code.expires_ms,
                    failures=0,
                )
            )
            newest = (
                select(CodeRow.id)
                .where(CodeRow.address_id == code.address_id)
                .order_by(CodeRow.id.desc())
                .limit(keep)
            )
            await connection.execute(
                delete(CodeRow).where(
                    CodeRow.address_id == code.address_id, CodeRow.id.not_in(newest)
                )
            )
            return True

    async def codes(self, project_id: str, now_ms: int) -> list[ValidationCode]:
        wanted = (
            select(CodeRow.__table__)
            .join(AddressRow, AddressRow.id == CodeRow.address_id)
            .where(AddressRow.project_id == project_id, CodeRow.expires_at > now_ms)
        )
        async with self._database.read() as connection:
            return [_to_code(row) for row in (await connection.execute(wanted)).all()]

    async def find_long_code(self, digest: bytes, now_ms: int) -> ValidationCode | None:
        wanted = select(CodeRow.__table__).where(
            CodeRow.long_digest == digest, CodeRow.expires_at > now_ms
        )
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        return _to_code(row) if row and digest else None

    @rerun
    async def code_failed(self, project_id: str, failures: int) -> None:
        mine = (
            select(CodeRow.id)
            .join(AddressRow, AddressRow.id == CodeRow.address_id)
            .where(AddressRow.project_id == project_id)
            .order_by(CodeRow.id)
            .with_for_update(key_share=True, of=CodeRow)
        )
        async with self._database.write() as connection:
            ids = list((await connection.execute(mine)).scalars())
            for chunk in chunks(ids):
                these = CodeRow.id.in_(chunk)
                await connection.execute(
                    update(CodeRow).where(these).values(failures=CodeRow.failures + 1)
                )
                await connection.execute(delete(CodeRow).where(these, CodeRow.failures >= failures))

    @rerun
    async def verify(self, address_id: str, now_ms: int) -> bool:
        async with self._database.write() as connection:
            changed = await connection.execute(
                update(AddressRow)
                .where(AddressRow.id == address_id, AddressRow.verified.is_(False))
                .values(verified=True)
                .returning(AddressRow.project_id)
            )
            row = changed.first()
            await connection.execute(delete(CodeRow).where(CodeRow.address_id == address_id))
            if row is None:
                return False
            await record(
                connection, now_ms, "validation", "verify notification address", address_id,
                row.project_id,
            )  # fmt: skip
            return True

    async def sends_since(self, type_: str, address: str, since_ms: int) -> int:
        wanted = select(func.count()).where(
            DeliveryRow.kind == CODE_MESSAGE,
            DeliveryRow.type == type_,
            DeliveryRow.address == address,
            DeliveryRow.created_at > since_ms,
        )
        async with self._database.read() as connection:
            return (await connection.execute(wanted)).scalar_one()

    # -- the outbox ---------------------------------------------------------------------------

    async def enqueue(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            async with self._database.write() as connection:
                await connection.execute(insert(DeliveryRow), [delivery_row(d) for d in deliveries])

    @rerun
    async def claim(self, now_ms: int, lease_ms: int, limit: int) -> list[Delivery]:
        due = (
            select(DeliveryRow.id)
            .where(
                DeliveryRow.status == PENDING,
                DeliveryRow.next_attempt_at <= now_ms,
                DeliveryRow.leased_until <= now_ms,
                ~_behind(),
            )
            .order_by(DeliveryRow.next_attempt_at, DeliveryRow.id)
            .limit(limit)
        )
        async with self._database.write() as connection:
            return await _lease(connection, due, now_ms + lease_ms)

    async def settle(
        self, delivery_id: str, status: str, reason: str, now_ms: int, next_attempt_ms: int = 0
    ) -> None:
        await self.settle_many([(delivery_id, status, reason, next_attempt_ms)], now_ms)

    @rerun
    async def settle_many(self, ends: Sequence[tuple[str, str, str, int]], now_ms: int) -> None:
        """Settle several at once: id, status, reason, next attempt of each."""
        if not ends:
            return
        change = (
            update(DeliveryRow.__table__)  # type: ignore[arg-type]
            .where(DeliveryRow.id == bindparam("key"), DeliveryRow.status == PENDING)
            .values(
                status=bindparam("to"),
                reason=bindparam("why"),
                attempts=DeliveryRow.attempts + 1,
                changed_at=now_ms,
                next_attempt_at=bindparam("then"),
                leased_until=0,
            )
        )
        # In the order in which rows are locked everywhere.
        rows = [
            {"key": delivery_id, "to": status, "why": reason[:2000], "then": next_attempt_ms}
            for delivery_id, status, reason, next_attempt_ms in sorted(ends)
        ]
        async with self._database.write() as connection:
            await connection.execute(change, rows)

    @rerun
    async def defer(self, ids: Sequence[str], until_ms: int) -> None:
        async with self._database.write() as connection:
            for chunk in chunks(ids):
                mine = (
                    select(DeliveryRow.id)
                    .where(DeliveryRow.id.in_(chunk), DeliveryRow.status == PENDING)
                    .order_by(DeliveryRow.id)
                )
                await connection.execute(
                    update(DeliveryRow)
                    .where(DeliveryRow.id.in_(locked(mine)))
                    .values(next_attempt_at=until_ms, leased_until=0)
                )

    async def release_claims(self) -> None:
        if self._database.shared:
            return  # They may be another process's, who is sending. What nobody sends runs out.
        async with self._database.write() as connection:
            await connection.execute(
                update(DeliveryRow)
                .where(DeliveryRow.status == PENDING, DeliveryRow.leased_until > 0)
                .values(leased_until=0)
            )

    @rerun
    async def gather(self, delivery: Delivery, now_ms: int, lease_ms: int) -> list[Delivery]:
        others = (
            select(DeliveryRow.id)
            .where(
                DeliveryRow.status == PENDING,
                DeliveryRow.kind == ALARM_MESSAGE,
                DeliveryRow.type == delivery.type,
                DeliveryRow.address == delivery.address,
                DeliveryRow.project_id == delivery.project_id,
                DeliveryRow.leased_until <= now_ms,
                DeliveryRow.id != delivery.id,
            )
            .order_by(DeliveryRow.id)
        )
        async with self._database.write() as connection:
            return await _lease(connection, others, now_ms + lease_ms)

    async def next_due_ms(self) -> int | None:
        wanted = select(
            func.min(
                case(
                    (DeliveryRow.leased_until > DeliveryRow.next_attempt_at,
                     DeliveryRow.leased_until),
                    else_=DeliveryRow.next_attempt_at,
                )
            )
        ).where(DeliveryRow.status == PENDING, ~_behind())  # fmt: skip
        async with self._database.read() as connection:
            due: int | None = (await connection.execute(wanted)).scalar_one()
            return due

    async def backlog(self) -> tuple[int, int | None]:
        """How many deliveries are pending, and when the oldest of them was queued."""
        wanted = select(func.count(), func.min(DeliveryRow.created_at)).where(
            DeliveryRow.status == PENDING
        )
        async with self._database.read() as connection:
            number, oldest = (await connection.execute(wanted)).one()
            return number, oldest

    async def sent_since(self, type_: str, address: str, since_ms: int) -> int:
        """Alarm messages that were delivered to a destination since then."""
        wanted = select(func.count()).where(
            DeliveryRow.address == address,
            DeliveryRow.type == type_,
            DeliveryRow.kind == ALARM_MESSAGE,
            DeliveryRow.status == DELIVERED,
            DeliveryRow.changed_at > since_ms,
        )
        async with self._database.read() as connection:
            return (await connection.execute(wanted)).scalar_one()

    # -- the ledger ---------------------------------------------------------------------------

    async def list_deliveries(
        self, project_id: str, wanted: DeliveryFilter, before: str | None, limit: int
    ) -> list[Delivery]:
        query = select(DeliveryRow.__table__).where(DeliveryRow.project_id == project_id)
        for column, value in (
            (DeliveryRow.status, wanted.status),
            (DeliveryRow.alarm_id, wanted.alarm_id),
            (DeliveryRow.method_id, wanted.method_id),
            (DeliveryRow.kind, wanted.kind),
        ):
            if value is not None:
                query = query.where(column == value)
        order = tuple_(DeliveryRow.created_at, DeliveryRow.id)
        async with self._database.read() as connection:
            if before is not None:
                last = await _delivery(connection, project_id, before)
                query = query.where(order < (last.created_ms, last.id))
            query = query.order_by(DeliveryRow.created_at.desc(), DeliveryRow.id.desc())
            rows = (await connection.execute(query.limit(limit))).all()
        return [delivery_of(row) for row in rows]

    async def get_delivery(self, project_id: str, delivery_id: str) -> Delivery:
        async with self._database.read() as connection:
            return await _delivery(connection, project_id, delivery_id)

    @rerun
    async def retry_delivery(self, project_id: str, delivery_id: str, now_ms: int, by: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                locked(select(DeliveryRow.id).where(DeliveryRow.id == delivery_id))
            )
            found = await _delivery(connection, project_id, delivery_id)
            if found.status != FAILED:
                raise HeliometerError(
                    Code.CONFLICT,
                    f"The notification is {found.status}; only failed ones can be replayed.",
                )
            await connection.execute(
                update(DeliveryRow)
                .where(DeliveryRow.id == delivery_id, DeliveryRow.status == FAILED)
                .values(
                    status=PENDING, reason="", attempts=0, next_attempt_at=now_ms,
                    started_at=now_ms, changed_at=now_ms, leased_until=0,
                )
            )  # fmt: skip
            await record(connection, now_ms, by, "replay notification", delivery_id, project_id)

    async def forget_deliveries(self, before_ms: int, limit: int) -> int:
        some = (
            select(DeliveryRow.id)
            .where(DeliveryRow.status != PENDING, DeliveryRow.changed_at < before_ms)
            .limit(limit)
        )
        some = locked(some, skip=True)
        async with self._database.write() as connection:
            gone = await connection.execute(delete(DeliveryRow).where(DeliveryRow.id.in_(some)))
            return gone.rowcount


async def _lease(connection: AsyncConnection, wanted: Select[str], until_ms: int) -> list[Delivery]:
    """Claim these, but for what another process is claiming, in their order."""
    ids = list((await connection.execute(locked(wanted, skip=True))).scalars())
    taken: dict[str, Delivery] = {}
    for chunk in chunks(ids):
        change = (
            update(DeliveryRow)
            .where(DeliveryRow.id.in_(chunk))
            .values(leased_until=until_ms)
            .returning(*DeliveryRow.__table__.columns)
        )
        taken.update((row.id, delivery_of(row)) for row in await connection.execute(change))
    return [taken[delivery_id] for delivery_id in ids]


def _behind() -> ColumnElement[bool]:
    """Whether an earlier message of the same alarm and method is pending still."""
    earlier = aliased(DeliveryRow)
    return (
        select(earlier.id)
        .where(
            earlier.alarm_id == DeliveryRow.alarm_id,
            earlier.method_id == DeliveryRow.method_id,
            earlier.status == PENDING,
            earlier.transition_id < DeliveryRow.transition_id,
        )
        .exists()
    )


async def _check_number(
    connection: AsyncConnection,
    table: type[MethodRow] | type[AddressRow],
    project_id: str,
    limit: int,
) -> None:
    count = select(func.count()).where(table.project_id == project_id)
    number = (await connection.execute(count)).scalar_one()
    if number >= limit:
        what = "notification methods" if table is MethodRow else "notification addresses"
        raise HeliometerError(
            Code.RATE_LIMITED,
            f"The project has {number} {what} and may have {limit}.",
            details="Delete some that are not used.",
            retry_after=3600,
        )


async def _method(
    connection: AsyncConnection, project_id: str, method_id: str
) -> NotificationMethod:
    wanted = select(MethodRow.__table__).where(
        MethodRow.id == method_id, MethodRow.project_id == project_id
    )
    row = (await connection.execute(wanted)).first()
    if row is None:
        raise _missing("notification method", method_id)
    return _to_method(row)


async def _lock_method(connection: AsyncConnection, project_id: str, method_id: str) -> None:
    """Until the transaction ends, nobody queues a message for the method. Raises NOT_FOUND."""
    await lock_project(connection, project_id)  # whose alarms may be about to name it
    wanted = select(MethodRow.id).where(
        MethodRow.id == method_id, MethodRow.project_id == project_id
    )
    if (await connection.execute(wanted.with_for_update())).first() is None:
        raise _missing("notification method", method_id)


async def _address(
    connection: AsyncConnection, project_id: str, address_id: str
) -> NotificationAddress:
    wanted = select(AddressRow.__table__).where(
        AddressRow.id == address_id, AddressRow.project_id == project_id
    )
    row = (await connection.execute(wanted)).first()
    if row is None:
        raise _missing("notification address", address_id)
    return _to_address(row)


async def _delivery(connection: AsyncConnection, project_id: str, delivery_id: str) -> Delivery:
    wanted = select(DeliveryRow.__table__).where(
        DeliveryRow.id == delivery_id, DeliveryRow.project_id == project_id
    )
    row = (await connection.execute(wanted)).first()
    if row is None:
        raise _missing("notification", delivery_id)
    return delivery_of(row)


def _missing(what: str, given: str) -> HeliometerError:
    return HeliometerError(Code.NOT_FOUND, f"There is no {what} {given[:60]!r}.")


def _to_method(row: Row[Any]) -> NotificationMethod:
    return NotificationMethod(
        row.id, row.project_id, row.name, row.type, row.address, row.created_at, row.secret
    )


def _to_address(row: Row[Any]) -> NotificationAddress:
    return NotificationAddress(
        row.id, row.project_id, row.type, row.address, row.name,
        VERIFIED if row.verified else IN_PROGRESS, row.created_at, row.expires_at,
    )  # fmt: skip


def _to_code(row: Row[Any]) -> ValidationCode:
    return ValidationCode(
        row.address_id, row.short_hash, row.long_digest, row.expires_at, row.failures
    )
