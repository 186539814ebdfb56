"""The feed keeps out who comes for a disabled project, and drops what a deleted one had."""

from typing import cast

from heliometer.feed.credentials import hash_password, is_password
from heliometer.feed.model import Endpoint
from heliometer.feed.ports import FeedServer
from heliometer.server.project_watch import ProjectWatch


class Server:
    """What was asked of the feed's server."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def reset(self, endpoint: Endpoint) -> None:
        opens = is_password("right", endpoint.password_hash)
        self.said.append((endpoint.project_id, "open" if opens else "shut"))

    async def close(self, endpoint: Endpoint) -> None:
        self.said.append((endpoint.project_id, "gone"))


async def test_it_follows_the_projects() -> None:
    server, enabled = Server(), {"a": True, "b": True}
    stored = [Endpoint(f"e{i}", i, hash_password("right"), 0) for i in ("a", "b")]

    async def endpoints() -> list[Endpoint]:
        return [e for e in stored if e.project_id in enabled]

    async def states() -> dict[str, bool]:
        return dict(enabled)

    watch = ProjectWatch(cast(FeedServer, server), endpoints, states)

    async def after() -> list[tuple[str, str]]:
        server.said.clear()
        await watch.look()
        return list(server.said)

    assert await after() == []
    enabled["a"] = False
    assert await after() == [("a", "shut")]
    assert await after() == []
    enabled["a"] = True
    assert await after() == [("a", "open")]
    enabled["b"] = False
    del enabled["a"]
    assert await after() == [("a", "gone"), ("b", "shut")]
    del enabled["b"]
    assert await after() == [("b", "gone")]
    assert await after() == []
