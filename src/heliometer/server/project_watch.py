"""Keeps the feed's clients out of projects that were disabled, and drops queues of deleted ones.

Whoever disables or deletes a project does so in the database: a command, or any process. The
process that serves the feed looks there.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from heliometer.feed.credentials import hash_password, new_password
from heliometer.feed.model import Endpoint
from heliometer.feed.ports import FeedServer

LOOK_S = 10
"""Seconds between two looks, well within the minute that a revocation may take."""


class ProjectWatch:
    """What the feed serves, compared with which projects there are."""

    def __init__(
        self,
        server: FeedServer,
        endpoints: Callable[[], Awaitable[Sequence[Endpoint]]],
        enabled: Callable[[], Awaitable[Mapping[str, bool]]],
    ) -> None:
        """``enabled`` says of all projects that there are whether they are enabled."""
        self._server = server
        self._load_endpoints = endpoints
        self._load_enabled = enabled
        self._known: dict[str, Endpoint] = {}
        self._shut: set[str] = set()
        """Projects whose clients are kept out."""

    async def look(self) -> None:
        """Act on what has changed since the last look. Raises UNAVAILABLE; all is tried again."""
        # In this order: an endpoint's project is there before it, and after it.
        endpoints = {e.project_id: e for e in await self._load_endpoints()}
        enabled = await self._load_enabled()
        for project_id, endpoint in list(self._known.items()):
            if project_id not in enabled:
                await self._server.close(endpoint)
                self._shut.discard(project_id)
                del self._known[project_id]
        self._known |= {i: e for i, e in endpoints.items() if i in enabled}
        for project_id, endpoint in self._known.items():
            if not enabled[project_id] and project_id not in self._shut:
                nobody = replace(endpoint, password_hash=hash_password(new_password()))
                await self._server.reset(nobody)
                self._shut.add(project_id)
            elif enabled[project_id] and project_id in self._shut:
                await self._server.reset(endpoint)
                self._shut.discard(project_id)
