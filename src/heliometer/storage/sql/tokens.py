"""Tokens of the built-in identity, in the resource database."""

from sqlalchemy import delete, insert, select
from sqlalchemy.sql import ColumnElement, and_, or_

from heliometer.identity.accounts import Membership, Project, Token, TokenOwner, User
from heliometer.storage.sql.accounts import PROJECT, USER
from heliometer.storage.sql.database import Database, milliseconds, record
from heliometer.storage.sql.tables import GrantRow, ProjectRow, TokenRow, UserRow
from heliometer.storage.sql.transactions import locked, rerun


class SqlTokenStore:
    """Implements ``identity.ports.TokenStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @rerun
    async def add(self, token: Token, *, password_hash: str | None, parent: bytes | None) -> bool:
        """Store a token, unless the credentials it is based on have become invalid."""
        earned: list[ColumnElement[bool]] = [UserRow.id == token.user_id, UserRow.enabled.is_(True)]
        if password_hash is not None:
            earned.append(UserRow.password_hash == password_hash)
        if parent is not None:
            earned.append(select(TokenRow.hash).where(TokenRow.hash == parent).exists())
        row = {
            "hash": token.digest,
            "user_id": token.user_id,
            "project_id": token.project_id,
            "methods": " ".join(token.methods),
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "audit_ids": " ".join(token.audit_ids),
        }
        mine = select(UserRow.id).where(UserRow.id == token.user_id)
        async with self._database.write() as connection:
            # A revocation changes or locks the user too, so one waits for the other.
            await connection.execute(mine.with_for_update(read=True))
            if (await connection.execute(select(UserRow.id).where(*earned))).first() is None:
                return False
            await connection.execute(insert(TokenRow).values(row))
            return True

    async def find(self, digest: bytes) -> TokenOwner | None:
        """The token, if its user, project and membership still allow it. Expiry is not checked."""
        token = (
            TokenRow.project_id,
            TokenRow.methods,
            TokenRow.issued_at,
            TokenRow.expires_at,
            TokenRow.audit_ids,
        )
        wanted = (
            select(*token, *USER, *PROJECT, GrantRow.role)
            .join(UserRow, and_(UserRow.id == TokenRow.user_id, UserRow.enabled))
            .outerjoin(ProjectRow, and_(ProjectRow.id == TokenRow.project_id, ProjectRow.enabled))
            .outerjoin(
                GrantRow,
                and_(
                    GrantRow.user_id == TokenRow.user_id,
                    GrantRow.project_id == ProjectRow.id,
                ),
            )
            .where(
                TokenRow.hash == digest,
                or_(TokenRow.project_id.is_(None), GrantRow.role.is_not(None)),
            )
        )
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        if row is None:
            return None
        values = tuple(row)
        project_id, methods, issued_at, expires_at, audit_ids = values[:5]
        user = User(*values[5:10])
        membership = Membership(Project(*values[10:13]), values[13]) if project_id else None
        found = Token(
            digest=digest,
            user_id=user.id,
            project_id=project_id,
            methods=tuple(methods.split()),
            issued_at=issued_at,
            expires_at=expires_at,
            audit_ids=tuple(audit_ids.split()),
        )
        return TokenOwner(found, user, membership)

    @rerun
    async def remove(self, digest: bytes) -> None:
        """Remove a token. It is not an error if there is none."""
        async with self._database.write() as connection:
            await connection.execute(delete(TokenRow).where(TokenRow.hash == digest))

    @rerun
    async def remove_all(self, user_id: str) -> None:
        """Remove all tokens of a user."""
        async with self._database.write() as connection:
            user = locked(select(UserRow.name).where(UserRow.id == user_id))
            name = (await connection.execute(user)).scalar_one_or_none()
            await connection.execute(delete(TokenRow).where(TokenRow.user_id == user_id))
            if name is not None:
                await record(connection, milliseconds(), name, "revoke all tokens", name)

    async def remove_expired(self, before: int, limit: int) -> int:
        """Remove up to ``limit`` tokens that expired at or before then; returns how many."""
        some = locked(
            select(TokenRow.hash).where(TokenRow.expires_at <= before).limit(limit), skip=True
        )
        async with self._database.write() as connection:
            gone = await connection.execute(delete(TokenRow).where(TokenRow.hash.in_(some)))
            return gone.rowcount
