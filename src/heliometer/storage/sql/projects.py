"""Settings of projects in the resource database."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select, update

from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.projects.model import DEFAULT_LEVEL, LEVELS, Found
from heliometer.storage.sql.database import Database, milliseconds, record
from heliometer.storage.sql.tables import ProjectRow

AT_ONCE = 500
"""The most names in one statement."""


class SqlProjectStore:
    """Implements ``projects.ports.ProjectStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def project_exists(self, project_id: str) -> bool:
        """Whether an enabled project has this id."""
        wanted = select(ProjectRow.id).where(ProjectRow.id == project_id, ProjectRow.enabled)
        async with self._database.read() as connection:
            return (await connection.execute(wanted)).first() is not None

    async def ids(self) -> Sequence[str]:
        """The ids of all projects, including disabled ones."""
        async with self._database.read() as connection:
            return list((await connection.execute(select(ProjectRow.id))).scalars())

    async def enabled(self) -> Mapping[str, bool]:
        """All projects by id, and whether each is enabled."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(ProjectRow.id, ProjectRow.enabled))
            return {row.id: row.enabled for row in rows}

    async def resolve(self, references: Sequence[str]) -> Mapping[str, Found]:
        """The enabled projects with these ids or names, by the id or name that was given."""
        found: dict[str, Found] = {}
        columns = (ProjectRow.id, ProjectRow.name, ProjectRow.monitoring_level)
        async with self._database.read() as connection:
            for at in range(0, len(references), AT_ONCE):
                part = references[at : at + AT_ONCE]
                named = ProjectRow.id.in_(part) | ProjectRow.name.in_(part)
                wanted = select(*columns).where(ProjectRow.enabled, named)
                for id_, name, level in await connection.execute(wanted):
                    found[id_] = found[name] = Found(id_, level or DEFAULT_LEVEL)
        return {reference: found[reference] for reference in references if reference in found}

    async def levels(self) -> Mapping[str, str]:
        """The levels of all projects that do not have the default, by id and by name."""
        wanted = select(ProjectRow.id, ProjectRow.name, ProjectRow.monitoring_level).where(
            ProjectRow.enabled, ProjectRow.monitoring_level != DEFAULT_LEVEL
        )
        async with self._database.read() as connection:
            rows = await connection.execute(wanted)
            return {key: level for id_, name, level in rows if level for key in (id_, name)}

    async def monitoring_level(self, project_id: str) -> str:
        """The project's level; the default if none was set."""
        wanted = select(ProjectRow.monitoring_level).where(ProjectRow.id == project_id)
        async with self._database.read() as connection:
            return (await connection.execute(wanted)).scalar_one_or_none() or DEFAULT_LEVEL

    async def set_monitoring_level(self, project_id: str, level: str, by: str) -> None:
        """Set the level and record who did so.

        Raises INVALID for a level that does not exist and NOT_FOUND for such a project.
        """
        if level not in LEVELS:
            raise Invalid(f"level: {level[:40]!r} is none; allowed: {', '.join(LEVELS)}.")
        change = (
            update(ProjectRow)
            .where(ProjectRow.id == project_id)
            .values(monitoring_level=level)
            .returning(ProjectRow.id)
        )
        async with self._database.write() as connection:
            if (await connection.execute(change)).first() is None:
                raise HeliometerError(Code.NOT_FOUND, f"There is no project {project_id[:40]}.")
            await record(connection, milliseconds(), by, "set monitoring level", level, project_id)
