"""The audit trail in the resource database; ``database.record`` adds to it."""

from sqlalchemy import delete, select

from heliometer.identity.audit import AuditEntry, AuditFilter
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tables import AuditRow
from heliometer.storage.sql.transactions import locked

COLUMNS = (
    AuditRow.id,
    AuditRow.at,
    AuditRow.actor,
    AuditRow.project_id,
    AuditRow.action,
    AuditRow.details,
)


class SqlAuditStore:
    """Implements ``identity.audit.AuditStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, wanted: AuditFilter, before_id: int | None, limit: int
    ) -> list[AuditEntry]:
        """Entries, newest first, older than the one with this id."""
        conditions = [
            column == value
            for column, value in (
                (AuditRow.project_id, wanted.project_id),
                (AuditRow.actor, wanted.actor),
                (AuditRow.action, wanted.action),
            )
            if value is not None
        ]
        if wanted.start_ms is not None:
            conditions.append(AuditRow.at >= wanted.start_ms)
        if wanted.end_ms is not None:
            conditions.append(AuditRow.at < wanted.end_ms)
        if before_id is not None:
            conditions.append(AuditRow.id < before_id)
        query = select(*COLUMNS).where(*conditions).order_by(AuditRow.id.desc()).limit(limit)
        async with self._database.read() as connection:
            return [AuditEntry(*row) for row in await connection.execute(query)]

    async def forget(self, before_ms: int, limit: int) -> int:
        """Remove up to ``limit`` entries of before then; return how many."""
        old = locked(
            select(AuditRow.id).where(AuditRow.at < before_ms).order_by(AuditRow.id).limit(limit),
            skip=True,
        )
        async with self._database.write() as connection:
            gone = await connection.execute(delete(AuditRow).where(AuditRow.id.in_(old)))
            return gone.rowcount
