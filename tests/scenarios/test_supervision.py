"""Every task of a process is ended by force, whatever its back ends are doing, and comes back."""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from conftest import PASSWORD
from eventually import eventually_async
from heliometer.cli.serve import ROLES
from heliometer.config import load
from heliometer.core import background
from heliometer.server.process import take_commands
from heliometer.server.service import Service, running

SUPERVISED = {
    "control", "evaluator", "feed-upkeep", "heartbeat", "host-collector", "notifier",
    "outbox-watch", "project-watch", "scrub", "statsd", "upkeep",
}  # fmt: skip
"""The tasks of a process with all roles."""
WITHIN = {"evaluation", "at once", "transitions", "reconciling"}
"""The tasks within the evaluator."""


@dataclass
class World:
    folder: Path
    service: Service
    client: httpx.AsyncClient

    def tasks(self) -> dict[str, asyncio.Task[object]]:
        """Those of the service that should last, by name."""
        named = {task.get_name(): task for task in asyncio.all_tasks()}
        return {name: task for name, task in named.items() if name in SUPERVISED | WITHIN}

    async def metrics(self) -> dict[str, float]:
        text = (await self.client.get("/metrics")).text
        return {
            name: float(value)
            for name, value in re.findall(r"^(heliometer_.+) (\S+)$", text, re.MULTILINE)
        }

    async def all_up(self) -> bool:
        up = {k: v for k, v in (await self.metrics()).items() if k.startswith("heliometer_task_up")}
        assert set(up) == {f'heliometer_task_up{{task="{name}"}}' for name in SUPERVISED}
        return set(up.values()) == {1.0}

    async def mail_to(self, address: str) -> None:
        """Have a code sent, and wait for the mail."""
        fields = {"type": "EMAIL", "address": address}
        reply = await self.client.post(
            "/v1.1/notification-addresses", json={"notification_address": fields}
        )
        assert reply.status_code == 201, reply.text
        new = self.folder / "outbox" / "email" / "new"
        await eventually_async(
            lambda: any(f"To: {address}" in mail.read_text() for mail in new.glob("*")),
            why=lambda: f"no mail to {address}",
        )

    async def end(self, *names: str) -> None:
        """End tasks by force, and wait until others have taken their places."""
        ended = {name: self.tasks()[name] for name in names}
        for task in ended.values():
            task.cancel()

        def back() -> bool:
            now = self.tasks()
            return set(now) == SUPERVISED | WITHIN and all(
                now[name] is not task for name, task in ended.items()
            )

        await eventually_async(back, why=lambda: f"{sorted(self.tasks())}", pause_s=0.005)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(background, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(background, "LAST_RETRY_S", 0.05)
    monkeypatch.setattr(background, "STEADY_S", 0.2)
    monkeypatch.setenv("HELIOMETER_BOOTSTRAP_PASSWORD", PASSWORD)
    settings = load(None, {
        "HELIOMETER_SERVER_DATA_DIR": str(tmp_path / "var"),
        "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0",
        "HELIOMETER_STATSD_LISTEN": "127.0.0.1:0",
        "HELIOMETER_NOTIFY_HEARTBEAT_TO": "mailto:watch@mail.com",
    })  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(settings, frozenset(ROLES)))
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=service.http), base_url="http://test"
            )
        )
        service.tasks.run(stack, lambda: take_commands(settings, service), "control")
        credentials = {"username": "demo", "password": PASSWORD}
        reply = await client.post(
            "/identity/v2.0/tokens",
            json={"auth": {"tenantName": "demo", "passwordCredentials": credentials}},
        )
        client.headers["X-Auth-Token"] = reply.json()["access"]["token"]["id"]
        world = World(tmp_path / "var", service, client)
        await eventually_async(lambda: set(world.tasks()) == SUPERVISED | WITHIN)
        yield world


@contextlib.contextmanager
def locked(*files: Path) -> Iterator[None]:
    """Nobody else can write to these databases meanwhile."""
    with contextlib.ExitStack() as stack:
        for file in files:
            other = stack.enter_context(
                contextlib.closing(sqlite3.connect(file, isolation_level=None))
            )
            other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.parametrize("away", [(), ("resources.sqlite", "feed.sqlite")])
async def test_every_task_comes_back(world: World, away: tuple[str, ...]) -> None:
    with locked(*(world.folder / name for name in away)):
        for names in [[*SUPERVISED | WITHIN]] if away else [[n] for n in SUPERVISED | WITHIN]:
            await world.end(*names)
        assert (await world.client.get("/livez")).status_code == 200
    while not await world.all_up():
        await asyncio.sleep(0.05)
    after = await world.metrics()
    for name in SUPERVISED:
        assert after[f'heliometer_task_restarts_total{{task="{name}"}}'] >= 1
    await world.mail_to("joe@mail.com")
    metric = {"namespace": "shop", "value": 1}
    assert (await world.client.post("/v1.1/metrics", json=metric)).status_code == 204
    health = await world.client.get("/v2/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
