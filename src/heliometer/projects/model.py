"""Projects (the documents' tenants) and what is set for each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol
from zlib import crc32

LEVELS = ("basic", "premium")
"""Monitoring levels (v1.1 §4.4.8): system metrics every 300 s, or every 60 s."""
DEFAULT_LEVEL = "basic"
LEVEL_INTERVAL_S = {"basic": 300, "premium": 60}


class Found(NamedTuple):
    """A project that somebody named."""

    id: str
    level: str


class Share(NamedTuple):
    """One of the parts that all projects are divided into."""

    number: int
    """From 0."""
    of: int

    def holds(self, project_id: str) -> bool:
        """Whether a project belongs to it."""
        return self.of == 1 or part_of(project_id, self.of) == self.number


WHOLE = Share(0, 1)


def part_of(project_id: str, parts: int) -> int:
    """Which of so many parts a project belongs to: the same in every process and version."""
    return crc32(project_id.encode()) % parts


class ProjectStore(Protocol):
    """Keeps what is set for each project."""

    async def project_exists(self, project_id: str) -> bool:
        """Whether there is such a project, enabled."""
        ...

    async def resolve(self, references: Sequence[str]) -> Mapping[str, "Found"]:
        """The enabled projects of these ids or names, by what each was called."""
        ...

    async def levels(self) -> Mapping[str, str]:
        """The level of every project that has another than the default, by id and by name."""
        ...

    async def monitoring_level(self, project_id: str) -> str:
        """The project's level; the default when none was set."""
        ...

    async def set_monitoring_level(self, project_id: str, level: str, by: str) -> None:
        """Set the level and record who did so."""
        ...
