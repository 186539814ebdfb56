"""The delivery log in the resource database: the outbox's rows, for reading."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.notifications.model import (
    FAILED,
    PENDING,
    Backlog,
    Delivery,
    DeliveryFilter,
)
from heliometer.storage.sql.database import Database, record
from heliometer.storage.sql.deliveries import delivery_of
from heliometer.storage.sql.notification_rows import missing
from heliometer.storage.sql.tables import DeliveryRow
from heliometer.storage.sql.transactions import locked, rerun


class SqlDeliveryLog:
    """Implements ``notifications.ports.DeliveryLog``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, project_id: str, wanted: DeliveryFilter, before: str | None, limit: int
    ) -> Sequence[Delivery]:
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
                last = await self._delivery(connection, project_id, before)
                query = query.where(order < (last.created_ms, last.id))
            query = query.order_by(DeliveryRow.created_at.desc(), DeliveryRow.id.desc())
            rows = (await connection.execute(query.limit(limit))).all()
        return [delivery_of(row, self._database.secrets) for row in rows]

    async def get(self, project_id: str, delivery_id: str) -> Delivery:
        async with self._database.read() as connection:
            return await self._delivery(connection, project_id, delivery_id)

    @rerun
    async def retry(self, project_id: str, delivery_id: str, now_ms: int, by: str) -> bool:
        # One conditional update: of several simultaneous requests only one finds it failed.
        change = (
            update(DeliveryRow)
            .where(
                DeliveryRow.id == delivery_id,
                DeliveryRow.project_id == project_id,
                DeliveryRow.status == FAILED,
            )
            .values(
                status=PENDING, reason="", attempts=0, next_attempt_at=now_ms,
                started_at=now_ms, changed_at=now_ms, leased_until=0,
            )
        )  # fmt: skip
        async with self._database.write() as connection:
            if (await connection.execute(change)).rowcount == 0:
                return False
            await record(connection, now_ms, by, "replay notification", delivery_id, project_id)
            return True

    async def backlog(self) -> Backlog:
        wanted = select(func.count(), func.min(DeliveryRow.started_at)).where(
            DeliveryRow.status == PENDING
        )
        async with self._database.read() as connection:
            return Backlog(*(await connection.execute(wanted)).one())

    async def forget(self, before_ms: int, limit: int) -> int:
        some = (
            select(DeliveryRow.id)
            .where(DeliveryRow.status != PENDING, DeliveryRow.changed_at < before_ms)
            .limit(limit)
        )
        some = locked(some, skip=True)
        async with self._database.write() as connection:
            gone = await connection.execute(delete(DeliveryRow).where(DeliveryRow.id.in_(some)))
            return gone.rowcount

    async def _delivery(
        self, connection: AsyncConnection, project_id: str, delivery_id: str
    ) -> Delivery:
        wanted = select(DeliveryRow.__table__).where(
            DeliveryRow.id == delivery_id, DeliveryRow.project_id == project_id
        )
        row = (await connection.execute(wanted)).first()
        if row is None:
            raise missing("notification", delivery_id)
        return delivery_of(row, self._database.secrets)
