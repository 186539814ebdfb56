"""Open invitations in the resource database."""

from sqlalchemy import Row, Select, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import User
from heliometer.identity.invitations import Invitation, no_invitation
from heliometer.storage.sql.accounts import put_role, put_user
from heliometer.storage.sql.database import Database, milliseconds, record
from heliometer.storage.sql.tables import GrantRow, InvitationRow, ProjectRow
from heliometer.storage.sql.transactions import lock_project, locked, rerun

Columns = tuple[str, str, str, str, str, int, int]


class SqlInvitationStore:
    """Implements ``identity.invitations.InvitationStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @rerun
    async def add(self, invitation: Invitation, digest: bytes, limit: int) -> None:
        """Store an invitation, instead of expired ones; RATE_LIMITED beyond ``limit``."""
        mine = InvitationRow.project_id == invitation.project_id
        row = {
            "id": invitation.id,
            "digest": digest,
            "project_id": invitation.project_id,
            "role": invitation.role,
            "created_by": invitation.created_by,
            "created_at": invitation.created_ms,
            "expires_at": invitation.expires_ms,
        }
        async with self._database.write() as connection:
            await lock_project(connection, invitation.project_id)
            expired = InvitationRow.expires_at <= invitation.created_ms
            await connection.execute(delete(InvitationRow).where(mine, expired))
            count = select(func.count()).select_from(InvitationRow).where(mine)
            if (await connection.execute(count)).scalar_one() >= limit:
                raise HeliometerError(
                    Code.RATE_LIMITED,
                    f"{limit} invitations are open already.",
                    details="Withdraw some.",
                )
            await connection.execute(insert(InvitationRow).values(row))
            await record(
                connection, invitation.created_ms, invitation.created_by, "invite",
                f"{invitation.id}: {invitation.role}", invitation.project_id,
            )  # fmt: skip

    async def list(self, project_id: str, now_ms: int) -> list[Invitation]:
        """The open invitations of a project, oldest first."""
        wanted = (
            _open(now_ms)
            .where(InvitationRow.project_id == project_id)
            .order_by(InvitationRow.created_at, InvitationRow.id)
        )
        async with self._database.read() as connection:
            return [_invitation(row) for row in await connection.execute(wanted)]

    @rerun
    async def remove(self, project_id: str, invitation_id: str, by: str) -> None:
        """Withdraw an invitation. Raises NOT_FOUND."""
        mine = (InvitationRow.project_id == project_id, InvitationRow.id == invitation_id)
        gone = delete(InvitationRow).where(*mine)
        async with self._database.write() as connection:
            if not (await connection.execute(gone)).rowcount:
                raise no_invitation()
            await record(
                connection, milliseconds(), by, "withdraw invitation", invitation_id, project_id
            )

    async def find(self, digest: bytes, now_ms: int) -> Invitation | None:
        """The open invitation with this code, if its project is enabled."""
        async with self._database.read() as connection:
            return await _find(connection, _open(now_ms), digest)

    @rerun
    async def accept(self, digest: bytes, user: User, now_ms: int, *, is_new: bool) -> Invitation:
        """Use the invitation up and give the user its role."""
        async with self._database.write() as connection:
            # Locked: of two who accept at once, one finds it gone.
            key = select(InvitationRow.id).where(InvitationRow.digest == digest)
            await connection.execute(locked(key))
            found = await _find(connection, _open(now_ms), digest)
            if found is None:
                raise no_invitation()
            if is_new:
                await put_user(connection, user, now_ms)
            held = select(GrantRow.role).where(
                GrantRow.user_id == user.id, GrantRow.project_id == found.project_id
            )
            if (await connection.execute(held)).first() is not None:
                raise HeliometerError(
                    Code.CONFLICT, f"{user.name} belongs to project {found.project_name} already."
                )
            await put_role(connection, user, found.project_id, found.role)
            await connection.execute(delete(InvitationRow).where(InvitationRow.id == found.id))
            details = f"{user.name}: {found.role}, invited by {found.created_by}"
            await record(
                connection, now_ms, user.name, "accept invitation", details, found.project_id
            )
            return found


def _open(now_ms: int) -> Select[*Columns]:
    return (
        select(
            InvitationRow.id,
            InvitationRow.project_id,
            ProjectRow.name,
            InvitationRow.role,
            InvitationRow.created_by,
            InvitationRow.created_at,
            InvitationRow.expires_at,
        )
        .join(ProjectRow, ProjectRow.id == InvitationRow.project_id)
        .where(InvitationRow.expires_at > now_ms, ProjectRow.enabled)
    )


async def _find(
    connection: AsyncConnection, wanted: Select[*Columns], digest: bytes
) -> Invitation | None:
    row = (await connection.execute(wanted.where(InvitationRow.digest == digest))).first()
    return None if row is None else _invitation(row)


def _invitation(row: Row[*Columns]) -> Invitation:
    return Invitation(*row)
