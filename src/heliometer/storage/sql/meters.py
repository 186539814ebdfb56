"""Custom meters in the resource database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Malformed
from heliometer.meters.model import CustomMeter, Put, Quota
from heliometer.storage.sql.database import Database, chunks, record
from heliometer.storage.sql.tables import MeterRow
from heliometer.storage.sql.transactions import lock_project, rerun

DAY_MS = 86_400_000


class SqlMeterStore:
    """Implements ``meters.ports.MeterStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_meters(self, project_id: str) -> list[CustomMeter]:
        query = (
            select(MeterRow.__table__)
            .where(MeterRow.project_id == project_id)
            .order_by(MeterRow.created_at, MeterRow.id)
        )
        async with self._database.read() as connection:
            return [_to_meter(row) for row in (await connection.execute(query)).all()]

    @rerun
    async def take(
        self,
        project_id: str,
        new: Sequence[CustomMeter],
        puts: Sequence[Put],
        quota: Quota,
        now_ms: int,
        by: str,
    ) -> None:
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            if new:
                await _create(connection, project_id, new, quota, by, now_ms)
            for put in puts:
                await _count(connection, put, quota, now_ms)
            if puts:
                active = select(func.count()).where(
                    MeterRow.project_id == project_id, MeterRow.put_at > now_ms - DAY_MS
                )
                if (await connection.execute(active)).scalar_one() > quota.active:
                    raise Malformed(
                        f"Only {quota.active} custom meters is cannot update in 24 hours in the "
                        "current plan."
                    )

    @rerun
    async def give_back(self, new: Sequence[CustomMeter], puts: Sequence[Put]) -> None:
        async with self._database.write() as connection:
            for put in sorted(puts):
                left = MeterRow.put_number - put.samples
                await connection.execute(
                    update(MeterRow)
                    .where(MeterRow.id == put.meter_id)
                    .values(put_number=case((left > 0, left), else_=0))
                )
            for chunk in chunks(m.id for m in new):
                await connection.execute(delete(MeterRow).where(MeterRow.id.in_(chunk)))


async def _create(
    connection: AsyncConnection,
    project_id: str,
    new: Sequence[CustomMeter],
    quota: Quota,
    by: str,
    now_ms: int,
) -> None:
    count = select(func.count()).where(MeterRow.project_id == project_id)
    if (await connection.execute(count)).scalar_one() + len(new) > quota.meters:
        raise Malformed("Custom meter is over than the creation limit.")
    await connection.execute(
        insert(MeterRow),
        [
            {
                "id": m.id,
                "project_id": m.project_id,
                "namespace": m.namespace,
                "resource_id": m.resource_id,
                "name": m.name,
                "type": m.type,
                "unit": m.unit,
                "display_name": m.display_name,
                "created_at": m.created_ms,
                "put_at": 0,
                "put_day": 0,
                "put_number": 0,
            }
            for m in new
        ],
    )
    for meter in new:
        await record(connection, now_ms, by, "create custom meter", meter.id, project_id)


async def _count(connection: AsyncConnection, put: Put, quota: Quota, now_ms: int) -> None:
    today = now_ms // DAY_MS
    query = select(MeterRow.put_day, MeterRow.put_number).where(MeterRow.id == put.meter_id)
    day, number = (await connection.execute(query)).one()
    number = (number if day == today else 0) + put.samples
    if number > quota.samples:
        raise Malformed("Custom meter is over than the update limit.")
    await connection.execute(
        update(MeterRow)
        .where(MeterRow.id == put.meter_id)
        .values(put_at=now_ms, put_day=today, put_number=number)
    )


def _to_meter(row: Row[Any]) -> CustomMeter:
    return CustomMeter(
        row.id,
        row.project_id,
        row.namespace,
        row.resource_id,
        row.name,
        row.type,
        row.unit,
        row.display_name,
        row.created_at,
    )
