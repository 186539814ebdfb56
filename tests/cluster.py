"""Several ``heliometer`` processes in roles, on real engines with a database of their own each."""

import atexit
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from conftest import PASSWORD
from engine_servers import clickhouse_database, engines, postgresql_database, rabbitmq_vhost
from eventually import eventually
from leftovers import end_with_tests
from ports import free_port

ROLES = ("api", "api", "evaluator", "evaluator", "feed", "notifier")
"""What issue and documentation call the usual cluster."""
READY_S = 60.0


@dataclass
class Member:
    """One process."""

    roles: str
    data_dir: Path
    environment: dict[str, str]
    listen: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    """The same when it starts again."""
    url: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> "Member":
        """Start it and wait until it says that it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "heliometer", "serve", "--listen", self.listen,
                 "--data-dir", str(self.data_dir), "--roles", self.roles],
                stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment,
            )  # fmt: skip
        end_with_tests(self.process)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.fullmatch(r"heliometer ready on (https?://\S+)\n", line)
        assert match, f"{self.roles} not ready: {line!r}; {self.log()[-2000:]}"
        self.url = match[1]
        self.listen = self.url.split("//")[1]
        return self

    @property
    def log_file(self) -> Path:
        """Where its standard error goes."""
        return self.data_dir.parent / f"{self.data_dir.name}.log"

    def log(self) -> str:
        """What it wrote to standard error."""
        return self.log_file.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Until it has ended; its exit status."""
        assert self.process is not None
        status = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


@dataclass
class Cluster:
    """Processes that are one service."""

    folder: Path
    settings: dict[str, str]
    members: list[Member] = field(default_factory=list)

    def add(self, roles: str, data_dir: Path | None = None, **more: str) -> Member:
        """Start one more process; ``more`` settings as in the environment."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
        environment |= {
            "HELIOMETER_BOOTSTRAP_PASSWORD": PASSWORD,
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            **self.settings,
            **more,
        }
        name = f"{roles.replace(',', '-')}-{len(self.members)}"
        member = Member(roles, data_dir or self.folder / name, environment).start()
        self.members.append(member)
        return member

    def with_role(self, role: str) -> list[Member]:
        """The processes that do something."""
        return [m for m in self.members if role in m.roles.split(",")]

    @property
    def api(self) -> list[str]:
        """URLs of the processes that clients talk to."""
        return [m.url for m in self.with_role("api")]

    def wait_until_healthy(self, within_s: float = READY_S) -> None:
        """Return when every API process finds that all is well."""
        for url in self.api:
            reply = httpx.Response(503)

            def well(url: str = url) -> bool:
                nonlocal reply
                with contextlib.suppress(httpx.HTTPError):
                    reply = httpx.get(f"{url}/v2/health", timeout=10)
                return reply.text == '{"status":"ok"}'

            eventually(well, within_s, lambda: f"{reply.text}\n{self.logs()}")  # noqa: B023

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"== {m.data_dir.name}\n{m.log()[-1500:]}" for m in self.members)

    def token(self, api: int = 0) -> str:
        """A new token of the demo user."""
        auth = {"tenantName": "demo",
                "passwordCredentials": {"username": "demo", "password": PASSWORD}}  # fmt: skip
        reply = httpx.post(f"{self.api[api]}/identity/v2.0/tokens", json={"auth": auth}, timeout=20)
        assert reply.status_code == 200, reply.text
        token: str = reply.json()["access"]["token"]["id"]
        return token

    def client(self, api: int = 0) -> httpx.Client:
        """A client of one API process with the demo user's token."""
        headers = {"X-Auth-Token": self.token(api)}
        return httpx.Client(base_url=self.api[api], headers=headers, timeout=30)

    def stop(self) -> list[int]:
        """End all; their exit statuses."""
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                member.process.send_signal(signal.SIGTERM)
        return [m.wait() for m in self.members if m.process is not None]


@contextlib.contextmanager
def running_cluster(folder: Path, roles: tuple[str, ...] = ROLES, **more: str) -> Iterator[Cluster]:
    """A cluster on the shared engines, with databases of its own; ``more`` settings as in the
    environment."""
    with (
        postgresql_database() as resources,
        clickhouse_database() as metrics,
        rabbitmq_vhost() as bus,
    ):
        admin = engines()
        settings = {
            "HELIOMETER_RESOURCES_URL": resources,
            "HELIOMETER_METRICS_URL": metrics,
            "HELIOMETER_BUS_URL": bus,
            "HELIOMETER_AMQP_BACKEND": "rabbitmq",
            "HELIOMETER_AMQP_URL": admin.rabbitmq.rstrip("/"),
            "HELIOMETER_AMQP_MANAGEMENT_URL": admin.management,
            **more,
        }
        cluster = Cluster(folder, settings)
        try:
            for each in roles:
                cluster.add(each)
            cluster.wait_until_healthy()
            yield cluster
        finally:
            cluster.stop()


SHARED = contextlib.ExitStack()
"""Databases of clusters, dropped when the tests end."""
atexit.register(SHARED.close)


class ClusterServer:
    """The usual cluster in the place of one server: connections go to its API processes in turn,
    and everything else is where that server would have it."""

    def __init__(self, data_dir: Path, environment: dict[str, str]) -> None:
        self.settings = {
            "HELIOMETER_AMQP_LISTEN": f"127.0.0.1:{free_port()}",
            "HELIOMETER_EMAIL_URL": f"maildir:{data_dir}/outbox/email",
            "HELIOMETER_SMS_URL": f"folder:{data_dir}/outbox/sms",
            "HELIOMETER_SECRETS_KEY_FILE": f"{data_dir}.key",
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            **environment,
            "HELIOMETER_RESOURCES_URL": SHARED.enter_context(postgresql_database()),
            "HELIOMETER_METRICS_URL": SHARED.enter_context(clickhouse_database()),
            "HELIOMETER_BUS_URL": SHARED.enter_context(rabbitmq_vhost()),
        }
        self._data_dir = data_dir
        self._folder = data_dir.parent / f"{data_dir.name}-cluster"
        self._cluster: Cluster | None = None
        self._front: Front | None = None

    def start(self, listen: str) -> str:
        """Start all processes; the URL for clients."""
        self._front = Front(listen)
        # Those who are asked know from the request where they were found; those who send do not.
        public = {"HELIOMETER_SERVER_PUBLIC_URL": self._front.url}
        self._cluster = Cluster(self._folder, self.settings)
        for roles in ROLES:
            # Tests look for the feed's files where one server would have them.
            folder = self._data_dir if roles == "feed" else None
            self._cluster.add(
                "notifier,collector" if roles == "notifier" else roles,
                folder,
                **({} if roles == "api" else public),
            )
        self._front.upstreams = [m.listen for m in self._cluster.with_role("api")]
        self._cluster.wait_until_healthy()
        return self._front.url

    @property
    def api_process(self) -> subprocess.Popen[str] | None:
        """One of those that clients talk to."""
        assert self._cluster is not None
        return self._cluster.members[0].process

    @property
    def apis(self) -> list[str]:
        """URLs of the processes that clients talk to."""
        assert self._cluster is not None
        return self._cluster.api

    def log(self) -> str:
        """Of all processes."""
        assert self._cluster is not None
        return "".join(m.log() for m in self._cluster.members)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End all; 0 when each ended well."""
        assert self._cluster is not None
        assert self._front is not None
        if number != signal.SIGTERM:
            for member in self._cluster.members:
                member.stop(number)
        statuses = self._cluster.stop()
        self._front.close()
        return next((status for status in statuses if status), 0)


class Front:
    """Passes each connection on to the next upstream in turn, byte by byte."""

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self._listener = socket.create_server((host, int(port)), backlog=1000)
        self.url = f"http://{host}:{self._listener.getsockname()[1]}"
        self.upstreams: list[str] = []
        self._turn = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, peer = self._listener.accept()
            except OSError:
                return
            self._turn += 1
            host, _, port = self.upstreams[self._turn % len(self.upstreams)].rpartition(":")
            try:
                # From the client's own address: limits count by it.
                upstream = socket.create_connection(
                    (host, int(port)), timeout=20, source_address=(peer[0], 0)
                )
            except OSError:
                client.close()
                continue
            upstream.settimeout(None)
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_up, args=(client, upstream), daemon=True).start()
            threading.Thread(target=_down, args=(upstream, client), daemon=True).start()


def _up(client: socket.socket, upstream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(1 << 16):
            upstream.sendall(data)
    with contextlib.suppress(OSError):
        upstream.shutdown(socket.SHUT_WR)


def _down(upstream: socket.socket, client: socket.socket) -> None:
    """When the server has closed, so does the connection, whatever the client has to say."""
    with contextlib.suppress(OSError):
        while data := upstream.recv(1 << 16):
            client.sendall(data)
    for each in (client, upstream):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
