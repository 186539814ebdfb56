"""Users, projects and memberships of the built-in identity, in the resource database."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Member, Membership, Project, User, is_id
from heliometer.notifications.checks import PROJECT_DISABLED
from heliometer.notifications.model import PENDING, WITHHELD
from heliometer.storage.sql.database import Database, record
from heliometer.storage.sql.holdings import OF_PROJECT, OF_USER, count
from heliometer.storage.sql.tables import DeliveryRow, GrantRow, ProjectRow, TokenRow, UserRow
from heliometer.storage.sql.transactions import lock_service, rerun, upsert

PROJECT = (ProjectRow.id, ProjectRow.name, ProjectRow.enabled)
USER = (
    UserRow.id,
    UserRow.name,
    UserRow.password_hash,
    UserRow.enabled,
    UserRow.is_operator,
)

FIRST_START = 0x68656C6902
"""PostgreSQL's number of the lock for creating the first project."""


class SqlAccountStore:
    """Implements ``identity.ports.AccountStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @rerun
    async def add_first(self, project: Project, user: User, role: str, at: int) -> bool:
        """Add the user, the project and the membership if there is neither a project nor a user
        yet."""
        async with self._database.write() as connection:
            await lock_service(connection, FIRST_START)
            for column in (ProjectRow.id, UserRow.id):
                if (await connection.execute(select(column).limit(1))).first() is not None:
                    return False
            await _put_project(connection, project, at)
            await put_user(connection, user, at)
            await put_role(connection, user, project.id, role)
            await record(connection, at, "first start", "create", user.name, project.id)
            return True

    async def add_project(self, project: Project, at: int, by: str) -> None:
        """Add a project; raise CONFLICT when the name is taken."""
        async with self._database.write() as connection:
            await _put_project(connection, project, at)
            await record(connection, at, by, "create project", project.name, project.id)

    async def find_project(self, reference: str) -> Project | None:
        """The project with this id or name."""
        column = ProjectRow.id if is_id(reference) else ProjectRow.name
        rows = await self._rows(select(*PROJECT).where(column == reference))
        return Project(*rows[0]) if rows else None

    async def list_projects(self) -> list[Project]:
        """All projects, sorted by name."""
        rows = await self._rows(select(*PROJECT).order_by(ProjectRow.name))
        return [Project(*row) for row in rows]

    @rerun
    async def set_project_enabled(self, project: Project, enabled: bool, at: int, by: str) -> None:
        """Enable or disable a project; disabling revokes its tokens, and withholds what waits to
        be sent."""
        change = update(ProjectRow).where(ProjectRow.id == project.id).values(enabled=enabled)
        waiting = update(DeliveryRow).where(
            DeliveryRow.project_id == project.id, DeliveryRow.status == PENDING
        )
        async with self._database.write() as connection:
            await connection.execute(change)
            if not enabled:
                await connection.execute(delete(TokenRow).where(TokenRow.project_id == project.id))
                await connection.execute(
                    waiting.values(status=WITHHELD, reason=PROJECT_DISABLED, changed_at=at)
                )
            action = "enable project" if enabled else "disable project"
            await record(connection, at, by, action, project.name, project.id)

    @rerun
    async def remove_project(self, project: Project, at: int, by: str) -> None:
        """Remove a project; the database removes what refers to it."""
        async with self._database.write() as connection:
            await connection.execute(delete(ProjectRow).where(ProjectRow.id == project.id))
            await record(connection, at, by, "delete project", project.name, project.id)

    async def project_holdings(self, project_id: str) -> Mapping[str, int]:
        """How much of each kind belongs to the project."""
        return await count(self._database, OF_PROJECT, project_id)

    @rerun
    async def add_user(
        self, user: User, project: Project | None, role: str, at: int, by: str
    ) -> None:
        """Add a user, as a member of a project if there is one; raise CONFLICT when the name is
        taken."""
        async with self._database.write() as connection:
            await put_user(connection, user, at)
            if project is None:
                await record(connection, at, by, "create user", user.name)
                return
            await put_role(connection, user, project.id, role)
            await record(connection, at, by, "create user", f"{user.name}: {role}", project.id)

    async def find_user(self, reference: str) -> User | None:
        """The user with this id or name."""
        column = UserRow.id if is_id(reference) else UserRow.name
        rows = await self._rows(select(*USER).where(column == reference))
        return User(*rows[0]) if rows else None

    async def list_users(self) -> list[User]:
        """All users, sorted by name."""
        return [User(*row) for row in await self._rows(select(*USER).order_by(UserRow.name))]

    @rerun
    async def set_role(self, user: User, project: Project, role: str, at: int, by: str) -> None:
        """Make the user a member of the project, or change the role."""
        async with self._database.write() as connection:
            await put_role(connection, user, project.id, role)
            await record(connection, at, by, "grant", f"{user.name}: {role}", project.id)

    @rerun
    async def remove_role(self, user: User, project: Project, at: int, by: str) -> bool:
        """End a membership and revoke the user's tokens for the project; whether there was one."""
        grant = delete(GrantRow).where(
            GrantRow.user_id == user.id, GrantRow.project_id == project.id
        )
        tokens = delete(TokenRow).where(
            TokenRow.user_id == user.id, TokenRow.project_id == project.id
        )
        async with self._database.write() as connection:
            if not (await connection.execute(grant)).rowcount:
                return False
            await connection.execute(tokens)
            await record(connection, at, by, "revoke role", user.name, project.id)
            return True

    async def list_members(self, project_id: str) -> list[Member]:
        """The users of a project, sorted by name."""
        wanted = (
            select(*USER, GrantRow.role)
            .join(GrantRow, GrantRow.user_id == UserRow.id)
            .where(GrantRow.project_id == project_id)
            .order_by(UserRow.name)
        )
        return [Member(User(*user), role) for *user, role in await self._rows(wanted)]

    async def list_memberships(self, user_id: str) -> list[Membership]:
        """The enabled projects that the user belongs to, sorted by name."""
        wanted = (
            select(*PROJECT, GrantRow.role)
            .join(GrantRow, GrantRow.project_id == ProjectRow.id)
            .where(GrantRow.user_id == user_id, ProjectRow.enabled)
            .order_by(ProjectRow.name)
        )
        return [
            Membership(Project(id_, name, enabled), role)
            for id_, name, enabled, role in await self._rows(wanted)
        ]

    @rerun
    async def set_password_hash(self, user: User, password_hash: str, at: int, by: str) -> None:
        """Change the password and revoke the user's tokens."""
        change = update(UserRow).where(UserRow.id == user.id).values(password_hash=password_hash)
        async with self._database.write() as connection:
            await connection.execute(change)
            await connection.execute(delete(TokenRow).where(TokenRow.user_id == user.id))
            await record(connection, at, by, "set password", user.name)

    @rerun
    async def set_user_enabled(self, user: User, enabled: bool, at: int, by: str) -> None:
        """Enable or disable a user; disabling revokes the user's tokens."""
        change = update(UserRow).where(UserRow.id == user.id).values(enabled=enabled)
        async with self._database.write() as connection:
            await connection.execute(change)
            if not enabled:
                await connection.execute(delete(TokenRow).where(TokenRow.user_id == user.id))
            action = "enable user" if enabled else "disable user"
            await record(connection, at, by, action, user.name)

    @rerun
    async def set_operator(self, user: User, is_operator: bool, at: int, by: str) -> None:
        """Let a user operate the whole service, or no longer."""
        change = update(UserRow).where(UserRow.id == user.id).values(is_operator=is_operator)
        async with self._database.write() as connection:
            await connection.execute(change)
            action = "add operator" if is_operator else "remove operator"
            await record(connection, at, by, action, user.name)

    async def user_holdings(self, user_id: str) -> Mapping[str, int]:
        """How much of each kind would be removed with the user."""
        return await count(self._database, OF_USER, user_id)

    @rerun
    async def remove_user(self, user: User, at: int, by: str) -> None:
        """Remove a user with its memberships and tokens."""
        async with self._database.write() as connection:
            await connection.execute(delete(UserRow).where(UserRow.id == user.id))
            await record(connection, at, by, "delete user", user.name)

    async def _rows(self, wanted: Select[*tuple[Any, ...]]) -> list[Any]:
        async with self._database.read() as connection:
            return list((await connection.execute(wanted)).all())


async def _put_project(connection: AsyncConnection, project: Project, at: int) -> None:
    row = {"id": project.id, "name": project.name, "enabled": project.enabled, "created_at": at}
    try:
        await connection.execute(insert(ProjectRow).values(row))
    except IntegrityError as error:
        raise _taken("project", project.name) from error


async def put_user(connection: AsyncConnection, user: User, at: int) -> None:
    """Add a user. Raises CONFLICT when the name is taken."""
    row = {
        "id": user.id,
        "name": user.name,
        "password_hash": user.password_hash,
        "enabled": user.enabled,
        "is_operator": user.is_operator,
        "created_at": at,
    }
    try:
        await connection.execute(insert(UserRow).values(row))
    except IntegrityError as error:
        raise _taken("user", user.name) from error


async def put_role(connection: AsyncConnection, user: User, project_id: str, role: str) -> None:
    """Make a user a member of a project, or change its role there."""
    keys = {"user_id": user.id, "project_id": project_id}
    await connection.execute(upsert(connection, GrantRow, keys, {"role": role}))


def _taken(what: str, name: str) -> HeliometerError:
    return HeliometerError(
        Code.CONFLICT, f"There is a {what} {name!r} already.", details="Choose another name."
    )
