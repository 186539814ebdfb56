"""Users, projects and memberships of the built-in identity, in the resource database."""

from typing import Any

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Membership, Project, User, is_id
from heliometer.storage.sql.database import Database, record
from heliometer.storage.sql.tables import GrantRow, ProjectRow, TokenRow, UserRow
from heliometer.storage.sql.transactions import lock_service, rerun, upsert

PROJECT = (ProjectRow.id, ProjectRow.name, ProjectRow.enabled)
USER = (UserRow.id, UserRow.name, UserRow.password_hash, UserRow.enabled)

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
            await _put_user(connection, user, at)
            await _put_role(connection, user, project, role)
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
    async def add_user(self, user: User, project: Project, role: str, at: int, by: str) -> None:
        """Add a user as a member of a project; raise CONFLICT when the name is taken."""
        async with self._database.write() as connection:
            await _put_user(connection, user, at)
            await _put_role(connection, user, project, role)
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
            await _put_role(connection, user, project, role)
            await record(connection, at, by, "grant", f"{user.name}: {role}", project.id)

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

    async def _rows(self, wanted: Select[*tuple[Any, ...]]) -> list[Any]:
        async with self._database.read() as connection:
            return list((await connection.execute(wanted)).all())


async def _put_project(connection: AsyncConnection, project: Project, at: int) -> None:
    row = {"id": project.id, "name": project.name, "enabled": project.enabled, "created_at": at}
    try:
        await connection.execute(insert(ProjectRow).values(row))
    except IntegrityError as error:
        raise _taken("project", project.name) from error


async def _put_user(connection: AsyncConnection, user: User, at: int) -> None:
    row = {
        "id": user.id,
        "name": user.name,
        "password_hash": user.password_hash,
        "enabled": user.enabled,
        "created_at": at,
    }
    try:
        await connection.execute(insert(UserRow).values(row))
    except IntegrityError as error:
        raise _taken("user", user.name) from error


async def _put_role(connection: AsyncConnection, user: User, project: Project, role: str) -> None:
    keys = {"user_id": user.id, "project_id": project.id}
    await connection.execute(upsert(connection, GrantRow, keys, {"role": role}))


def _taken(what: str, name: str) -> HeliometerError:
    return HeliometerError(
        Code.CONFLICT, f"There is a {what} {name!r} already.", details="Choose another name."
    )
