"""The use case of the monitoring level."""

from heliometer.core.errors import Malformed
from heliometer.identity.model import Caller
from heliometer.projects.model import LEVELS
from heliometer.projects.ports import ProjectStore


class Metering:
    """Get and set the monitoring level of the caller's project (v1.1 §4.4.8)."""

    def __init__(self, projects: ProjectStore) -> None:
        self._projects = projects

    async def level(self, caller: Caller) -> str:
        """The current level of the caller's project."""
        return await self._projects.monitoring_level(caller.project_id)

    async def set_level(self, caller: Caller, level: str) -> None:
        """Set the level. Raises MALFORMED if there is no such level."""
        if level not in LEVELS:
            raise Malformed(
                f"monitoring_level: {level[:40]!r} is not a level.",
                details=f"Levels are {' and '.join(LEVELS)}.",
            )
        await self._projects.set_monitoring_level(caller.project_id, level, caller.user_name)
