"""Notification methods in the resource database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.notifications.checks import check_number
from heliometer.notifications.model import PENDING, WITHHELD, NotificationMethod
from heliometer.storage.sql.database import Database, milliseconds, record
from heliometer.storage.sql.notification_rows import count_of, missing
from heliometer.storage.sql.sealing import ADDRESS, SECRET, seal_address, seal_secret
from heliometer.storage.sql.tables import DeliveryRow, MethodRow
from heliometer.storage.sql.transactions import lock_project, locked, rerun


class SqlMethodStore:
    """Implements ``notifications.ports.MethodStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @rerun
    async def create(self, method: NotificationMethod, by: str, limit: int) -> None:
        async with self._database.write() as connection:
            await lock_project(connection, method.project_id)
            box = self._database.secrets
            number = await count_of(connection, MethodRow.project_id, method.project_id)
            check_number("notification methods", number, limit)
            await connection.execute(
                insert(MethodRow).values(
                    id=method.id,
                    project_id=method.project_id,
                    name=method.name,
                    type=method.type,
                    address=seal_address(box, method.type, method.address),
                    secret=seal_secret(box, method.secret),
                    created_at=method.created_ms,
                )
            )
            await record(
                connection, milliseconds(), by, "create notification method", method.id,
                method.project_id,
            )  # fmt: skip

    async def get(self, project_id: str, method_id: str) -> NotificationMethod:
        async with self._database.read() as connection:
            return await self._method(connection, project_id, method_id)

    async def list(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> Sequence[NotificationMethod]:
        query = select(MethodRow.__table__).where(MethodRow.project_id == project_id)
        async with self._database.read() as connection:
            if after is not None:
                last = await self._method(connection, project_id, after)
                query = query.where(
                    tuple_(MethodRow.created_at, MethodRow.id) > (last.created_ms, last.id)
                )
            query = query.order_by(MethodRow.created_at, MethodRow.id).limit(limit)
            return [self._to_method(row) for row in (await connection.execute(query)).all()]

    @rerun
    async def delete(self, project_id: str, method_id: str, by: str, reason: str) -> None:
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
                .values(status=WITHHELD, reason=reason, changed_at=now)
            )
            await connection.execute(delete(MethodRow).where(MethodRow.id == method_id))
            await record(connection, now, by, "delete notification method", method_id, project_id)

    async def _method(
        self, connection: AsyncConnection, project_id: str, method_id: str
    ) -> NotificationMethod:
        wanted = select(MethodRow.__table__).where(
            MethodRow.id == method_id, MethodRow.project_id == project_id
        )
        row = (await connection.execute(wanted)).first()
        if row is None:
            raise missing("notification method", method_id)
        return self._to_method(row)

    def _to_method(self, row: Row[Any]) -> NotificationMethod:
        box = self._database.secrets
        address = box.open_or_empty(row.address, ADDRESS)
        secret = box.open_or_empty(row.secret, SECRET)
        if row.secret and not secret:
            address = ""
        return NotificationMethod(
            row.id, row.project_id, row.name, row.type, address, row.created_at, secret
        )


async def _lock_method(connection: AsyncConnection, project_id: str, method_id: str) -> None:
    """Keep others from queueing messages for the method until the transaction ends. Raises
    NOT_FOUND."""
    await lock_project(connection, project_id)  # an alarm may be about to name it
    wanted = select(MethodRow.id).where(
        MethodRow.id == method_id, MethodRow.project_id == project_id
    )
    if (await connection.execute(wanted.with_for_update())).first() is None:
        raise missing("notification method", method_id)
