"""The agent: it reports, waits while the server is away, and replays what it kept."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import RunningServer
from eventually import eventually
from ports import free_port


class Agent:
    """``heliometer collect`` as a process of its own."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server = server
        self.spool = folder / "spool"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, **environment: str) -> "Agent":
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "heliometer", "collect", "--interval", "2", "--spread", "0",
                 "--spool", str(self.spool), *arguments],
                stderr=log,
                env={**inherited, "HELIOMETER_URL": self.server.url,
                     "OS_USERNAME": self.server.username, "OS_PASSWORD": self.server.password,
                     "OS_PROJECT_NAME": self.server.project, **environment},
            )  # fmt: skip
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def waiting(self) -> int:
        return len(list(self.spool.glob("*.json.gz")))


@contextmanager
def agent_of(server: RunningServer, folder: Path) -> Iterator[Agent]:
    agent = Agent(server, folder)
    try:
        yield agent
    finally:
        if agent.process is not None and agent.process.poll() is None:
            agent.stop(signal.SIGKILL)


@pytest.fixture
def world(server: RunningServer) -> RunningServer:
    """A server as an agent sees it."""
    return server.tenant("agent")


@pytest.fixture
def frail_world(fresh_server: RunningServer) -> Iterator[RunningServer]:
    """One of its own, to be ended and started again."""
    world = fresh_server.start(f"127.0.0.1:{free_port()}").tenant("agent")
    yield world
    world.stop()


def counts(server: RunningServer, namespace: str, name: str) -> list[int]:
    """Measurements of a metric, second by second."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    with server.client() as client:
        reply = client.get(
            "/v1.1/metrics",
            params={"namespace": namespace, "dimensions": f"metric_name:{name}", "period": 1,
                    "statistics": "count", "start_time": start},
        )  # fmt: skip
        assert reply.status_code == 200, reply.text
        return [n for each in reply.json() for n in each["datapoints"]["count"]]


def test_the_agent_reports_and_replays(frail_world: RunningServer, tmp_path: Path) -> None:
    world = frail_world
    port = world.url.rpartition(":")[2]
    with agent_of(world, tmp_path) as agent:
        agent.start()
        eventually(lambda: counts(world, "hpcs.compute", "cpu_total_time"))
        assert counts(world, "heliometer.agent", "agent_up")
        # The server goes away: reports wait. The agent may end meanwhile, even hard.
        world.stop(signal.SIGKILL)
        eventually(lambda: agent.waiting() >= 2)
        agent.stop(signal.SIGKILL)
        assert agent.waiting() >= 2
        assert world.start(listen=f"127.0.0.1:{port}").url.endswith(port)
        agent.start()
        eventually(lambda: agent.waiting() == 0 or None)
        eventually(lambda: len(counts(world, "hpcs.compute", "cpu_total_time")) >= 4)
        assert agent.stop() == 0
        log = agent.log.read_text()
        assert log.count("reports wait in") == 1, log
        assert "no server answers" in log
        assert "delivered again" in log or log.count("INFO") >= 2
    seen = counts(world, "hpcs.compute", "cpu_total_time")
    assert set(seen) == {1}, "no report twice, however often it was sent"


def test_a_user_without_the_role_is_told_what_to_do(world: RunningServer, tmp_path: Path) -> None:
    bob = world.tenant()
    with agent_of(bob, tmp_path) as agent:
        agent.start()
        eventually(lambda: "role agent" in agent.log.read_text())
        eventually(lambda: agent.waiting() >= 2)  # nothing is lost meanwhile
        assert bob.command(
            "user", "grant", bob.username, "--project", bob.project, "--role", "agent"
        ).returncode == 0  # fmt: skip
        agent.stop()
        agent.start()
        eventually(lambda: agent.waiting() == 0 or None)


def test_a_wrong_password_keeps_reports(world: RunningServer, tmp_path: Path) -> None:
    with agent_of(world, tmp_path) as agent:
        agent.start(OS_PASSWORD="wrong")
        eventually(lambda: "check user, password and project" in agent.log.read_text())
        assert agent.waiting() >= 1
        assert agent.stop() == 0


def test_a_dry_run_sends_nothing_and_needs_no_server(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "heliometer", "collect", "--dry-run"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "cpu_total_utilization" in shown.stdout
    assert "nothing was sent" in shown.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_agents_level_comes_from_the_server(world: RunningServer, tmp_path: Path) -> None:
    """What the reply says is what the schedule has: see test_schedule for what follows."""
    from heliometer.cli.access import Access
    from heliometer.cli.report_sender import Sender
    from heliometer.collectors import Measurement
    from heliometer.collectors.spool import Spool

    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.open()
    access = Access(
        url=world.url, username=world.username, password=world.password, project=world.project
    )
    now = int(time.time()) * 1000
    # By a clock that is ahead: it waits until the server takes it.
    early = Measurement("hpcs.compute", {"instance_id": "i"}, now + 600_000, 1.0)
    good = Measurement("hpcs.compute", {"instance_id": "i"}, now, 1.0)
    old = Measurement("hpcs.compute", {"instance_id": "i"}, now - 15 * 86_400_000, 1.0)
    with access.connect(attempts=1) as client:
        sender = Sender(client, spool)
        for measurement in (early, old, good):
            sender.deliver_now([measurement])
        assert asyncio.run(sender.intervals()) == {"": 300}
        assert sender.skew_s is not None
        assert abs(sender.skew_s) < 5
        assert sender.counts == {"reports_sent": 1, "reports_dropped": 1}
    [left] = spool.entries()
    assert left.timestamp_ms == now + 600_000
    with world.client() as http:
        assert json.loads(http.get("/v1.1/metering").content)["value"] == "basic"
