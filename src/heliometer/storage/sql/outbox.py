"""The outbox in the resource database.

Several processes claim at once, so the statements themselves ensure that a delivery has one
notifier at a time, and that only the oldest of an alarm and method is claimed.
"""

from collections.abc import Sequence

from sqlalchemy import Select, bindparam, case, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased
from sqlalchemy.sql import ColumnElement

from heliometer.notifications.model import (
    ALARM_MESSAGE,
    DELIVERED,
    PENDING,
    Delivery,
    Settlement,
)
from heliometer.storage.sql.database import Database, chunks
from heliometer.storage.sql.deliveries import delivery_of, delivery_row
from heliometer.storage.sql.sealing import seal_address
from heliometer.storage.sql.tables import DeliveryRow
from heliometer.storage.sql.transactions import locked, rerun


class SqlOutbox:
    """Implements ``notifications.ports.Outbox``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def enqueue(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            async with self._database.write() as connection:
                rows = [
                    {**delivery_row(d), "address": self._stored(d.type, d.address)}
                    for d in deliveries
                ]
                await connection.execute(insert(DeliveryRow), rows)

    @rerun
    async def claim(self, now_ms: int, lease_ms: int, limit: int) -> Sequence[Delivery]:
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
            return await self._lease(connection, due, now_ms + lease_ms)

    @rerun
    async def settle(self, ends: Sequence[Settlement], now_ms: int) -> None:
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
        # Sorted, so that rows are locked in the same order everywhere.
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
            return  # Another process may be sending them; abandoned claims expire.
        async with self._database.write() as connection:
            await connection.execute(
                update(DeliveryRow)
                .where(DeliveryRow.status == PENDING, DeliveryRow.leased_until > 0)
                .values(leased_until=0)
            )

    @rerun
    async def gather(self, delivery: Delivery, now_ms: int, lease_ms: int) -> Sequence[Delivery]:
        others = (
            select(DeliveryRow.id)
            .where(
                DeliveryRow.status == PENDING,
                DeliveryRow.kind == ALARM_MESSAGE,
                DeliveryRow.type == delivery.type,
                DeliveryRow.address == self._stored(delivery.type, delivery.address),
                DeliveryRow.project_id == delivery.project_id,
                DeliveryRow.leased_until <= now_ms,
                DeliveryRow.id != delivery.id,
            )
            .order_by(DeliveryRow.id)
        )
        async with self._database.write() as connection:
            return await self._lease(connection, others, now_ms + lease_ms)

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

    async def delivered_since(self, type_: str, address: str, since_ms: int) -> int:
        wanted = select(func.count()).where(
            DeliveryRow.address == self._stored(type_, address),
            DeliveryRow.type == type_,
            DeliveryRow.kind == ALARM_MESSAGE,
            DeliveryRow.status == DELIVERED,
            DeliveryRow.changed_at > since_ms,
        )
        async with self._database.read() as connection:
            return (await connection.execute(wanted)).scalar_one()

    async def _lease(
        self, connection: AsyncConnection, wanted: Select[str], until_ms: int
    ) -> list[Delivery]:
        """Claim these in order, except those that another process is claiming."""
        ids = list((await connection.execute(locked(wanted, skip=True))).scalars())
        taken: dict[str, Delivery] = {}
        for chunk in chunks(ids):
            change = (
                update(DeliveryRow)
                .where(DeliveryRow.id.in_(chunk))
                .values(leased_until=until_ms)
                .returning(*DeliveryRow.__table__.columns)
            )
            for row in await connection.execute(change):
                taken[row.id] = delivery_of(row, self._database.secrets)
        return [taken[delivery_id] for delivery_id in ids]

    def _stored(self, type_: str, address: str) -> str:
        return seal_address(self._database.secrets, type_, address)


def _behind() -> ColumnElement[bool]:
    """Whether an earlier message of the same alarm and method is still pending."""
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
