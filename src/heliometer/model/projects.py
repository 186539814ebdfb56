"""Projects (the documents' tenants) and what is set for each."""

from typing import Protocol

LEVELS = ("basic", "premium")
"""Monitoring levels (v1.1 §4.4.8): system metrics every 300 s, or every 60 s."""
DEFAULT_LEVEL = "basic"
LEVEL_INTERVAL_S = {"basic": 300, "premium": 60}


class ProjectStore(Protocol):
    """Keeps what is set for each project."""

    async def project_exists(self, project_id: str) -> bool:
        """Whether there is such a project, enabled."""
        ...

    async def monitoring_level(self, project_id: str) -> str:
        """The project's level; the default when none was set."""
        ...

    async def set_monitoring_level(self, project_id: str, level: str, by: str) -> None:
        """Set the level and record who did so."""
        ...
