"""Projects (the documents' tenants) and what is set for each."""

from typing import NamedTuple
from zlib import crc32

LEVELS = ("basic", "premium")
"""Monitoring levels (v1.1 §4.4.8): system metrics every 300 s, or every 60 s."""
DEFAULT_LEVEL = "basic"
LEVEL_INTERVAL_S = {"basic": 300, "premium": 60}


class Found(NamedTuple):
    """A project that was looked up by id or name."""

    id: str
    level: str


class ProjectShard(NamedTuple):
    """One of the shards that all projects are divided into, each with one owner."""

    number: int
    """The shard's number, counted from 0."""
    of: int
    """How many shards there are."""

    def holds(self, project_id: str) -> bool:
        """Whether a project belongs to this shard."""
        return self.of == 1 or shard_of(project_id, self.of) == self.number


ALL_PROJECTS = ProjectShard(0, 1)


def shard_of(project_id: str, shards: int) -> int:
    """The number of a project's shard, the same in every process and version."""
    return crc32(project_id.encode()) % shards
