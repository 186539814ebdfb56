"""Notification addresses in the resource database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.notifications.checks import check_number
from heliometer.notifications.model import IN_PROGRESS, VERIFIED, NotificationAddress
from heliometer.storage.sql.database import Database, milliseconds, record
from heliometer.storage.sql.notification_rows import count_of, missing
from heliometer.storage.sql.tables import AddressRow, CodeRow
from heliometer.storage.sql.transactions import lock_project, rerun


class SqlAddressStore:
    """Implements ``notifications.ports.AddressStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @rerun
    async def put(self, address: NotificationAddress, by: str, limit: int) -> NotificationAddress:
        same = and_(
            AddressRow.project_id == address.project_id,
            AddressRow.type == address.type,
            AddressRow.address == address.address,
        )
        async with self._database.write() as connection:
            await lock_project(connection, address.project_id)
            found = (await connection.execute(select(AddressRow.__table__).where(same))).first()
            if found is None:
                number = await count_of(connection, AddressRow.project_id, address.project_id)
                check_number("notification addresses", number, limit)
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

    async def get(self, project_id: str, address_id: str) -> NotificationAddress:
        async with self._database.read() as connection:
            return await _address(connection, project_id, address_id)

    async def list(
        self, project_id: str, after: str | None = None, limit: int | None = None
    ) -> Sequence[NotificationAddress]:
        query = select(AddressRow.__table__).where(AddressRow.project_id == project_id)
        async with self._database.read() as connection:
            if after is not None:
                last = await _address(connection, project_id, after)
                query = query.where(
                    tuple_(AddressRow.created_at, AddressRow.id) > (last.created_ms, last.id)
                )
            query = query.order_by(AddressRow.created_at, AddressRow.id).limit(limit)
            return [_to_address(row) for row in (await connection.execute(query)).all()]

    async def find(self, address_id: str) -> NotificationAddress | None:
        wanted = select(AddressRow.__table__).where(AddressRow.id == address_id)
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        return _to_address(row) if row else None

    @rerun
    async def delete(self, project_id: str, address_id: str, by: str) -> None:
        async with self._database.write() as connection:
            await _address(connection, project_id, address_id)
            await connection.execute(delete(AddressRow).where(AddressRow.id == address_id))
            await record(
                connection, milliseconds(), by, "delete notification address", address_id,
                project_id,
            )  # fmt: skip

    @rerun
    async def verify(self, address_id: str, now_ms: int, by: str) -> bool:
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
                connection, now_ms, by, "verify notification address", address_id,
                row.project_id,
            )  # fmt: skip
            return True


async def _address(
    connection: AsyncConnection, project_id: str, address_id: str
) -> NotificationAddress:
    wanted = select(AddressRow.__table__).where(
        AddressRow.id == address_id, AddressRow.project_id == project_id
    )
    row = (await connection.execute(wanted)).first()
    if row is None:
        raise missing("notification address", address_id)
    return _to_address(row)


def _to_address(row: Row[Any]) -> NotificationAddress:
    return NotificationAddress(
        row.id, row.project_id, row.type, row.address, row.name,
        VERIFIED if row.verified else IN_PROGRESS, row.created_at, row.expires_at,
    )  # fmt: skip
