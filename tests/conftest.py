"""A real server, in a process of its own, that tests talk to over a socket."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
from hypothesis import settings

from effort import effort
from eventually import WITHIN_S
from heliometer.config import Settings, load
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from leftovers import end_with_tests

if TYPE_CHECKING:
    from cluster import ClusterServer

pytest_plugins = ["soak.recording"]

PASSWORD = "correct horse battery"
# Enough to find what is wrong now and then; the tests of grammar and arithmetic say themselves how
# many they need. No deadline: how long an example takes, the machine's load says.
settings.register_profile("suite", max_examples=effort(50, 2000), deadline=None)
settings.load_profile("suite")


@dataclass
class RunningServer:
    """``heliometer serve`` on a port of its own, with a data directory of its own."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("-m", "heliometer")
    """What Python runs; another one may know more."""
    username: str = "demo"
    password: str = PASSWORD
    project: str = "demo"
    url: str = ""
    process: subprocess.Popen[str] | None = None
    _token: str = ""
    _cluster: "ClusterServer | None" = None

    def start(self, listen: str = "127.0.0.1:0") -> "RunningServer":
        """Start it and wait until it says that it is ready; where ``HELIOMETER_TEST_CLUSTER`` is
        set, several processes on real engines take its place."""
        if os.environ.get("HELIOMETER_TEST_CLUSTER"):
            from cluster import ClusterServer

            self._cluster = self._cluster or ClusterServer(self.data_dir, self.environment)
            self.url = self._cluster.start(listen)
            self.process = self._cluster.api_process
            return self
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
        environment |= {
            "HELIOMETER_BOOTSTRAP_PASSWORD": PASSWORD,
            "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0",
            **self.environment,
        }
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "serve", "--listen", listen,
                 "--data-dir", str(self.data_dir)],
                stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
            )  # fmt: skip
        end_with_tests(self.process)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.fullmatch(r"heliometer ready on (https?://\S+)\n", line)
        assert match, f"not ready: {line!r}; {self.log()[-2000:]}"
        self.url = match[1]
        return self

    @property
    def clustered(self) -> bool:
        """Whether several processes take its place."""
        return self._cluster is not None

    @property
    def processes(self) -> list[str]:
        """URLs of the processes that serve clients: more than one where it is a cluster."""
        return self._cluster.apis if self._cluster else [self.url]

    @property
    def settings(self) -> Settings:
        """Its settings, for those who go behind its back to its databases."""
        more = self._cluster.settings if self._cluster else {}
        return load(None, {**self.environment, **more}, {"server.data_dir": str(self.data_dir)})

    def log(self) -> str:
        """What it wrote to standard error so far."""
        if self._cluster:
            return self._cluster.log()
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        if self._cluster:
            return self._cluster.stop(number)
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(WITHIN_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def command(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a ``heliometer`` command against its data directory."""
        return subprocess.run(
            [sys.executable, "-m", "heliometer", *arguments, "--data-dir", str(self.data_dir)],
            input=text, capture_output=True, text=True, timeout=60,
            env={**os.environ, **(self._cluster.settings if self._cluster else {})},
        )  # fmt: skip

    def token(self, username: str = "", project: str = "", password: str = PASSWORD) -> str:
        """A new token, of the demo user unless somebody else is named."""
        credentials = {"username": username or self.username, "password": password}
        reply = httpx.post(
            f"{self.url}/identity/v2.0/tokens",
            json={
                "auth": {
                    "tenantName": project or self.project,
                    "passwordCredentials": credentials,
                }
            },
            timeout=WITHIN_S,
        )
        assert reply.status_code == 200, reply.text
        token: str = reply.json()["access"]["token"]["id"]
        return token

    def tenant(self, role: str = "member") -> "RunningServer":
        """This server as the only user of a new project sees it, both of one name and added behind
        its back: cheaper than a server of one's own."""
        name = f"tenant-{uuid4().hex[:8]}"

        async def add() -> None:
            database = await Database.open(self.settings)
            identity = BuiltinIdentity(
                SqlAccountStore(database), SqlTokenStore(database), self.settings
            )
            project_id = await identity.create_project(name)
            await identity.create_user(name, PASSWORD, project_id, role)
            identity.close()
            await database.close()

        asyncio.run(add())
        return replace(self, username=name, project=name, _token="")

    def client(self, token: str | None = None) -> httpx.Client:
        """An HTTP client that sends a token, the user's unless given."""
        if token is None:
            self._token = token = self._token or self.token()
        return httpx.Client(base_url=self.url, headers={"X-Auth-Token": token}, timeout=WITHIN_S)


embedded_only = pytest.mark.skipif(
    bool(os.environ.get("HELIOMETER_TEST_CLUSTER")),
    reason="about one process and the databases in its data directory",
)
"""For tests that kill the one process, look into or fill its databases, or expect at once what
other processes learn within a minute, such as that a token is void."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests that do not mind what others stored; use your own namespaces."""
    running = RunningServer(
        tmp_path_factory.mktemp("server") / "var", {"HELIOMETER_COLLECTOR_ENABLED": "false"}
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that is not started yet, for one test alone."""
    running = RunningServer(tmp_path / "var", {"HELIOMETER_COLLECTOR_ENABLED": "false"})
    yield running
    if running.process is not None:
        running.stop()
