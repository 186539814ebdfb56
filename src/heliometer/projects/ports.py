"""What projects need of a store."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from heliometer.projects.model import Found


class ProjectStore(Protocol):
    """Projects and their monitoring levels."""

    async def project_exists(self, project_id: str) -> bool:
        """Whether the project exists and is enabled."""
        ...

    async def resolve(self, references: Sequence[str]) -> Mapping[str, Found]:
        """The enabled projects among these ids and names, by the reference that was given."""
        ...

    async def levels(self) -> Mapping[str, str]:
        """The levels that differ from the default, by project id and again by project name."""
        ...

    async def monitoring_level(self, project_id: str) -> str:
        """The project's level, or the default if none was set."""
        ...

    async def set_monitoring_level(self, project_id: str, level: str, by: str) -> None:
        """Set the level and record who did so."""
        ...
