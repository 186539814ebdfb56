"""Copies of Keystone's projects that other rows refer to."""

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from heliometer.identity.accounts import NAME_LENGTH, Project
from heliometer.storage.sql.database import Database, milliseconds, record
from heliometer.storage.sql.tables import ProjectRow
from heliometer.storage.sql.transactions import rerun

COLUMNS = (ProjectRow.id, ProjectRow.name, ProjectRow.enabled)
ACTOR = "keystone"


class SqlProjectMirror:
    """Implements ``identity.ports.ProjectMirror``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def named(self, name: str) -> Project | None:
        """The project that last had this name."""
        wanted = select(*COLUMNS).where(ProjectRow.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        return None if row is None else Project(*row)

    @rerun
    async def keep(self, project: Project) -> None:
        """Update the project, or add it if it is enabled."""
        wanted = select(*COLUMNS).where(ProjectRow.id == project.id)
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        if (row is None and not project.enabled) or (row and Project(*row) == project):
            return
        async with self._database.write() as connection:
            await _put(connection, project)

    @rerun
    async def disable(self, project_id: str) -> None:
        """Disable a project that Keystone no longer has; its data stays."""
        mine = (ProjectRow.id == project_id, ProjectRow.enabled)
        change = update(ProjectRow).where(*mine).values(enabled=False).returning(ProjectRow.name)
        async with self._database.read() as connection:
            if (await connection.execute(select(ProjectRow.id).where(*mine))).first() is None:
                return
        async with self._database.write() as connection:
            name = (await connection.execute(change)).scalar_one_or_none()
            if name is not None:
                at = milliseconds()
                await record(connection, at, ACTOR, "disable project", name, project_id)


async def _put(connection: AsyncConnection, project: Project) -> None:
    at = milliseconds()
    taken = select(ProjectRow.id).where(
        ProjectRow.name == project.name, ProjectRow.id != project.id
    )
    other = (await connection.execute(taken)).scalar_one_or_none()
    if other is not None:
        # Names are unique in Keystone: the other project has given this name up.
        name = f"{project.name[: NAME_LENGTH - len(other) - 1]}~{other}"
        await connection.execute(update(ProjectRow).where(ProjectRow.id == other).values(name=name))
        await record(connection, at, ACTOR, "rename project", name, other)
    values = {"name": project.name, "enabled": project.enabled}
    change = update(ProjectRow).where(ProjectRow.id == project.id).values(values)
    found = (await connection.execute(change.returning(ProjectRow.id))).first()
    if found is None:
        row = {"id": project.id, "created_at": at, **values}
        await connection.execute(insert(ProjectRow).values(row))
    action = "create project" if found is None else "change project"
    await record(connection, at, ACTOR, action, project.name, project.id)
