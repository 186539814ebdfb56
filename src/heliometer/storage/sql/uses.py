"""What was used of quotas, in the resource database."""

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.quotas import Refused, Use, judge
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tables import UseRow
from heliometer.storage.sql.transactions import lock_service, rerun

LARGEST = 1_000_000
"""Rows that are kept, whatever is tried: some hundred megabytes."""


class SqlUseStore:
    """Implements ``core.quotas.UseStore``."""

    def __init__(self, database: Database, largest: int = LARGEST) -> None:
        self._database = database
        self._largest = largest

    @rerun
    async def take(self, uses: Sequence[Use], now_ms: int) -> Refused | None:
        async with self._database.write() as connection:
            # In one order everywhere, so that there are no deadlocks.
            for use in sorted(uses, key=lambda use: use.key):
                await lock_service(connection, int.from_bytes(use.key[:8], "big", signed=True))
            refused = judge(uses, await _firsts(connection, uses, now_ms), now_ms)
            if refused is None and uses:
                rows = [
                    {"key": use.key, "at": now_ms, "ends_at": now_ms + use.quota.span_s * 1000}
                    for use in uses
                ]
                await connection.execute(insert(UseRow), rows)
            return refused

    async def check(self, uses: Sequence[Use], now_ms: int) -> Refused | None:
        async with self._database.read() as connection:
            return judge(uses, await _firsts(connection, uses, now_ms), now_ms)

    @rerun
    async def forget(self, use: Use) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(UseRow).where(UseRow.key == use.key))

    @rerun
    async def purge(self, now_ms: int) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(UseRow).where(UseRow.ends_at <= now_ms))
            number = (await connection.execute(select(func.count()).select_from(UseRow))).scalar()
            if number and number > self._largest:
                # Those that would go soonest anyway lose least.
                soonest = select(UseRow.id).order_by(UseRow.ends_at, UseRow.id)
                some = soonest.limit(number - self._largest)
                await connection.execute(delete(UseRow).where(UseRow.id.in_(some)))


async def _firsts(
    connection: AsyncConnection, uses: Sequence[Use], now_ms: int
) -> list[int | None]:
    """For each use, when the earliest of its quota's ``most`` newest uses within the span was."""
    firsts = []
    for use in uses:
        wanted = (
            select(UseRow.at)
            .where(UseRow.key == use.key, UseRow.at > now_ms - use.quota.span_s * 1000)
            .order_by(UseRow.at.desc())
            .offset(use.quota.most - 1)
            .limit(1)
        )
        firsts.append((await connection.execute(wanted)).scalar_one_or_none())
    return firsts
