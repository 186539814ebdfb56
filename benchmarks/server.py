"""The real server as a process of its own."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

PASSWORD = "benchmark-password-1"
COMMAND = Path(sys.executable).with_name("heliometer")
READY_WITHIN_S = 120
CONTROL_SOCKET = "control.sock"


class ServerFailed(Exception):
    """The server did not start, or refused something. The message holds what it said."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Server:
    """``heliometer serve`` on a free port, as a context; ends it by its process id."""

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir
        self._log = data_dir.with_name(data_dir.name + ".log")
        # As a user starts it: with compiled modules kept, and no settings but the benchmark's own.
        # The collector is off, because its measurements would be counted among them.
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("HELIOMETER_") and k != "PYTHONDONTWRITEBYTECODE"
        }
        self._environment = {
            **inherited,
            "HELIOMETER_BOOTSTRAP_PASSWORD": PASSWORD,
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0",
            **(settings or {}),
        }
        self.seconds_to_ready = 0.0

    def __enter__(self) -> Self:
        started = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [COMMAND, "serve", "--listen", "127.0.0.1:0", "--data-dir", self._data_dir],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            self.address = self._wait_until_ready(started)
        except BaseException:
            self.kill()
            raise
        self.seconds_to_ready = time.perf_counter() - started
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the server used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the server now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def stop(self) -> None:
        """Let it finish what it does and end; returns when it has."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()
        self._close()

    def sign_in(self) -> tuple[str, str]:
        """A token for project demo, and that project's id."""
        credentials = {"username": "demo", "password": PASSWORD}
        body = json.dumps({"auth": {"tenantName": "demo", "passwordCredentials": credentials}})
        with Client(self.address) as client:
            answer = client.send(request("POST", "/identity/v2.0/tokens", body.encode()))
        if answer.status != 200:
            raise ServerFailed(f"signing in answered {answer.status}: {answer.body[:300]!r}")
        token = answer.json()["access"]["token"]
        return token["id"], token["tenant"]["id"]

    def seal(self) -> None:
        """Have every recent measurement sealed; returns when that is done.

        Raises OSError when the server goes away meanwhile.
        """
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self._data_dir / CONTROL_SOCKET))
            answer = Client(connected=control).send(request("POST", "/-/seal", b"{}"))
        if answer.status != 200:
            raise ServerFailed(f"sealing answered {answer.status}: {answer.body[:300]!r}")

    def _wait_until_ready(self, started: float) -> tuple[str, int]:
        assert self._process.stdout is not None
        while time.perf_counter() - started < READY_WITHIN_S:
            if select.select([self._process.stdout], [], [], 1)[0]:
                line = self._process.stdout.readline().decode()
                found = re.fullmatch(r"heliometer ready on http://(.+):(\d+)\n", line)
                if found:
                    return found[1], int(found[2])
                if not line:
                    break
        said = self._log.read_text(errors="replace")[-2000:]
        raise ServerFailed(f"the server did not start: {said or 'it said nothing'}")

    def _close(self) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()


class Client:
    """One blocking connection, as a context. Raises ConnectionError when the other end goes."""

    def __init__(
        self, address: tuple[str, int] | None = None, connected: socket.socket | None = None
    ) -> None:
        if connected is None:
            assert address is not None
            connected = socket.create_connection(address)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, message: bytes | memoryview) -> Response:
        """Send one request and wait for its answer."""
        self._socket.sendall(message)
        received = bytearray()
        while (length := answer_length(received)) is None or len(received) < length:
            chunk = self._socket.recv(1 << 18)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            received += chunk
        body = received.find(b"\r\n\r\n") + 4
        pieces = _pieces(received, body) if _is_in_pieces(received[:body]) else None
        content = received[body:] if pieces is None else b"".join(pieces)
        return Response(int(received[9:12]), bytes(content))


def _is_in_pieces(head: bytes | bytearray) -> bool:
    return re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE) is not None


def _pieces(received: bytes | bytearray, at: int) -> list[bytes] | None:
    """The content of an answer in chunks that begins there; None until it is complete."""
    pieces: list[bytes] = []
    while (end := received.find(b"\r\n", at)) >= 0:
        size = int(received[at:end], 16)
        at = end + 2 + size + 2
        if at > len(received):
            return None
        if not size:
            return pieces
        pieces.append(bytes(received[end + 2 : end + 2 + size]))
    return None


def answer_length(received: bytes | bytearray) -> int | None:
    """How many bytes the answer that starts here has; None until its head is complete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    if _is_in_pieces(received[: end + 2]):
        return None if _pieces(received, end + 4) is None else len(received)
    found = re.search(rb"\r\ncontent-length: *(\d+)", received[: end + 2], re.IGNORECASE)
    return end + 4 + (int(found[1]) if found else 0)


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """A whole request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    given = {"Content-Type": "application/json", **(headers or {})} if body else headers or {}
    if body:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in given.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
