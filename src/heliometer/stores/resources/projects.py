"""What is set for each project, in the resource database."""

from sqlalchemy import select, update

from heliometer.model.errors import Code, HeliometerError, Invalid
from heliometer.model.projects import DEFAULT_LEVEL, LEVELS
from heliometer.stores.resources.database import Database, milliseconds, record
from heliometer.stores.resources.tables import ProjectRow


class SqlProjectStore:
    """Implements ``model.projects.ProjectStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def project_exists(self, project_id: str) -> bool:
        """Whether there is such a project, enabled."""
        wanted = select(ProjectRow.id).where(ProjectRow.id == project_id, ProjectRow.enabled)
        async with self._database.read() as connection:
            return (await connection.execute(wanted)).first() is not None

    async def monitoring_level(self, project_id: str) -> str:
        """The project's level; the default when none was set."""
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
