"""Validation codes in the resource database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from heliometer.notifications.model import ValidationCode
from heliometer.storage.sql.database import Database, chunks
from heliometer.storage.sql.tables import AddressRow, CodeRow
from heliometer.storage.sql.transactions import rerun


class SqlCodeStore:
    """Implements ``notifications.ports.CodeStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @rerun
    async def add(self, code: ValidationCode, keep: int) -> bool:
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

    async def valid(self, project_id: str, now_ms: int) -> Sequence[ValidationCode]:
        wanted = (
            select(CodeRow.__table__)
            .join(AddressRow, AddressRow.id == CodeRow.address_id)
            .where(AddressRow.project_id == project_id, CodeRow.expires_at > now_ms)
        )
        async with self._database.read() as connection:
            return [_to_code(row) for row in (await connection.execute(wanted)).all()]

    async def find_long(self, digest: bytes, now_ms: int) -> ValidationCode | None:
        wanted = select(CodeRow.__table__).where(
            CodeRow.long_digest == digest, CodeRow.expires_at > now_ms
        )
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        return _to_code(row) if row and digest else None

    @rerun
    async def count_failure(self, project_id: str, most: int) -> None:
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
                await connection.execute(delete(CodeRow).where(these, CodeRow.failures >= most))


def _to_code(row: Row[Any]) -> ValidationCode:
    return ValidationCode(
        row.address_id, row.short_hash, row.long_digest, row.expires_at, row.failures
    )
