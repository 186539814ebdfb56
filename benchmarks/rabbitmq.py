"""Debian's RabbitMQ as a process of its own: own ports, data, cookie and port mapper."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

ADMINISTRATOR, PASSWORD = "operator", "operator-secret"
# Debian wraps this one in another that goes over to a user of its own.
PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
START_S = 90


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class RabbitMQ:
    """One broker with the management API and an administrator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.management_port = free_port(), free_port()
        self._epmd_port, dist_port = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management_port}\n"
            f"default_user = {ADMINISTRATOR}\ndefault_pass = {PASSWORD}\n"
            "default_user_tags.administrator = true\n"
            "collect_statistics_interval = 1000\n"
        )
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"heliometer{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist_port),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ("-kernel inet_dist_use_interface {127,0,0,1}"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": "/dev/null",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._mapper: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://{ADMINISTRATOR}:{PASSWORD}@127.0.0.1:{self.port}"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    def start(self) -> "RabbitMQ":
        # Its own mapper, started here: one that the node starts would outlive it.
        self._mapper = subprocess.Popen(
            ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM], env=self._environment, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while True:
            try:
                if self.api("GET", "overview").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError((self._folder / "output").read_text()[-3000:])
            time.sleep(0.2)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the broker with everything that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._mapper is not None:
            self._mapper.terminate()
            self._mapper.wait(10)
        self._process = self._mapper = None

    def api(self, method: str, path: str) -> httpx.Response:
        """A request to the management API."""
        return httpx.request(
            method, f"{self.management_url}/api/{path}", auth=(ADMINISTRATOR, PASSWORD), timeout=5
        )
