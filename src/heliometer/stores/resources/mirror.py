"""Projects that live elsewhere, as far as what is kept here refers to them."""

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from heliometer.model.accounts import NAME_LENGTH, Project
from heliometer.stores.resources.database import Database, milliseconds, record, unavailable
from heliometer.stores.resources.tables import ProjectRow

COLUMNS = (ProjectRow.id, ProjectRow.name, ProjectRow.enabled)
TRIES = 5
ACTOR = "keystone"


class SqlProjectMirror:
    """Implements ``model.accounts.ProjectMirror``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def named(self, name: str) -> Project | None:
        """The project that was last known by this name."""
        wanted = select(*COLUMNS).where(ProjectRow.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        return None if row is None else Project(*row)

    async def keep(self, project: Project) -> None:
        """Add the project unless it is disabled, or change what is known of it."""
        for _ in range(TRIES):
            if await self._has(project):
                return
            try:
                await self._put(project)
            except _Again:
                continue  # Another process was faster.
            return
        raise unavailable()

    async def _has(self, project: Project) -> bool:
        wanted = select(*COLUMNS).where(ProjectRow.id == project.id)
        async with self._database.read() as connection:
            row = (await connection.execute(wanted)).first()
        return not project.enabled if row is None else Project(*row) == project

    async def _put(self, project: Project) -> None:
        at = milliseconds()
        holder = select(ProjectRow.id).where(
            ProjectRow.name == project.name, ProjectRow.id != project.id
        )
        values = {"name": project.name, "enabled": project.enabled}
        change = update(ProjectRow).where(ProjectRow.id == project.id).values(values)
        async with self._database.write() as connection:
            try:
                other = (await connection.execute(holder)).scalar_one_or_none()
                if other is not None:
                    name = f"{project.name[: NAME_LENGTH - len(other) - 1]}~{other}"
                    await connection.execute(
                        update(ProjectRow).where(ProjectRow.id == other).values(name=name)
                    )
                    await record(connection, at, ACTOR, "rename project", name, other)
                changed = (await connection.execute(change.returning(ProjectRow.id))).first()
                if changed is None:
                    row = {"id": project.id, "created_at": at, **values}
                    await connection.execute(insert(ProjectRow).values(row))
            except IntegrityError as error:
                raise _Again from error
            action = "create project" if changed is None else "change project"
            await record(connection, at, ACTOR, action, project.name, project.id)


class _Again(Exception):
    """Somebody else took the name or the id meanwhile; nothing was changed."""
