"""Every task of a process in a cluster is ended by force, whatever its engines do, and returns."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from conftest import PASSWORD
from effort import effort
from engine_servers import clickhouse_database, postgresql_database, rabbitmq_vhost
from eventually import WITHIN_S, eventually_async
from heliometer.config import load
from heliometer.core import background
from heliometer.server.service import running

pytestmark = pytest.mark.engines

SUPERVISED = {"broker", "feed-upkeep", "notifier", "outbox-watch", "own-health", "upkeep"}
CONNECTED = {
    "events", "feed-consumer", "feed-publisher", "membership", "publisher", "shards", "stalls",
}  # fmt: skip
"""What runs while there is a connection to RabbitMQ."""
TASKS = {
    *SUPERVISED, *(name.replace("-", " ") for name in CONNECTED), "connection",
    "ticks", "balance", "hear", "send", "catch up", "handle alarm", "feed 0", "shard 0",
    "evaluation of shard 0", "evaluation", "at once", "transitions", "reconciling",
}  # fmt: skip
ENGINES = ("resources", "metrics", "bus")


@dataclass
class Switch:
    """Passes connections on to an engine, unless it is off."""

    host: str
    port: int
    on: bool = True
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.on:
            writer.close()
            return
        there, to = await asyncio.open_connection(self.host, self.port)
        ends = {writer, to}
        self.writers |= ends
        with contextlib.suppress(OSError):
            await asyncio.wait(
                {
                    asyncio.create_task(_pass_on(reader, to)),
                    asyncio.create_task(_pass_on(there, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        self.writers -= ends
        for each in ends:
            each.close()

    def off(self) -> None:
        self.on = False
        for writer in self.writers:
            writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def switched(url: str) -> AsyncIterator[tuple[str, Switch]]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    switch = Switch(parts.hostname, parts.port)
    server = await asyncio.start_server(switch.serve, "127.0.0.1", 0)
    user, at, _ = parts.netloc.rpartition("@")
    place = f"{user}{at}127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield urlunsplit(parts._replace(netloc=place)), switch
    finally:
        switch.off()
        server.close()


@dataclass
class World:
    folder: Path
    client: httpx.AsyncClient
    switches: dict[str, Switch]

    def tasks(self) -> dict[str, asyncio.Task[object]]:
        named = {task.get_name(): task for task in asyncio.all_tasks()}
        return {name: task for name, task in named.items() if name in TASKS}

    async def end(self, *names: str, also: Collection[str] = ()) -> None:
        """End tasks by force, and wait until others have taken the places of those in ``names``."""
        ended = {name: task for name, task in self.tasks().items() if name in names}
        for name, task in self.tasks().items():
            if name in names or name in also:
                task.cancel()

        def back() -> bool:
            now = self.tasks()
            return set(now) >= set(names) and all(
                now[name] is not task for name, task in ended.items()
            )

        await eventually_async(
            back, why=lambda: f"{sorted(set(names) - set(self.tasks()))}", pause_s=0.01
        )

    async def back(self) -> None:
        """Wait until every task is there."""
        await eventually_async(
            lambda: set(self.tasks()) == TASKS, why=lambda: TASKS - set(self.tasks())
        )

    async def health(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until health says what is wanted."""
        async with asyncio.timeout(WITHIN_S):
            while not wanted((await self.client.get("/v2/health")).json()):
                await asyncio.sleep(0.1)

    async def works(self, address: str) -> None:
        """It takes, stores, evaluates and sends."""
        fields = {"type": "EMAIL", "address": address}
        reply = await self.client.post(
            "/v1.1/notification-addresses", json={"notification_address": fields}
        )
        assert reply.status_code == 201, reply.text
        metric = {"namespace": "shop", "dimensions": {"who": address}, "value": 1}
        assert (await self.client.post("/v1.1/metrics", json=metric)).status_code == 204
        new = self.folder / "outbox" / "email" / "new"
        await eventually_async(
            lambda: any(f"To: {address}" in mail.read_text() for mail in new.glob("*")),
            why=lambda: f"no mail to {address}",
        )


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(background, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(background, "LAST_RETRY_S", 0.05)
    monkeypatch.setattr(background, "STEADY_S", 0.5)
    for module in ("connection", "event_bus", "retrying"):
        monkeypatch.setattr(f"heliometer.cluster.{module}.LAST_RETRY_S", 0.5)
    monkeypatch.setenv("HELIOMETER_BOOTSTRAP_PASSWORD", PASSWORD)
    folder = tmp_path / "var"
    async with contextlib.AsyncExitStack() as stack:
        through = {}
        for name, engine in zip(
            ENGINES, (postgresql_database, clickhouse_database, rabbitmq_vhost), strict=True
        ):
            url = stack.enter_context(engine())
            through[name] = await stack.enter_async_context(switched(url))
        settings = load(None, {
            "HELIOMETER_SERVER_DATA_DIR": str(folder),
            "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0",
            "HELIOMETER_BUS_PARTITIONS": "1",
            **{f"HELIOMETER_{n.upper()}_URL": url for n, (url, _) in through.items()},
        })  # fmt: skip
        roles = frozenset(("api", "evaluator", "notifier", "feed"))
        service = await stack.enter_async_context(running(settings, roles))
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=service.http), base_url="http://test", timeout=60
            )
        )
        credentials = {"username": "demo", "password": PASSWORD}
        reply = await client.post(
            "/identity/v2.0/tokens",
            json={"auth": {"tenantName": "demo", "passwordCredentials": credentials}},
        )
        client.headers["X-Auth-Token"] = reply.json()["access"]["token"]["id"]
        world = World(folder, client, {name: switch for name, (_, switch) in through.items()})
        await world.back()
        yield world


async def test_every_task_comes_back(world: World) -> None:
    for name in sorted(TASKS) if effort(0, 1) else ("publisher", "evaluation"):
        await world.end(name)
        await world.back()
    # And while an engine is away: then those come back that do not wait for it.
    for away, switch in world.switches.items():
        switch.off()
        await world.end(*SUPERVISED, also=TASKS)
        assert (await world.client.get("/livez")).status_code == 200
        await world.health(lambda said, away=away: away in said.get("failed", {}))  # type: ignore[misc]
        switch.on = True
        await world.back()
        await world.health(lambda said: said == {"status": "ok"})
        await world.works(f"{away}@mail.com")
