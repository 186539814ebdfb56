"""Real PostgreSQL, ClickHouse, RabbitMQ and nginx for tests, by ``scripts/engines``.

``engines()`` are shared and keep running: make a database or vhost of your own in them.
``OwnEngines`` are for tests that stop, freeze, kill or fill them.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from eventually import eventually
from ports import free_port, free_ports

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "engines"
NAMES = ("postgresql", "clickhouse", "rabbitmq")
UP_S = 180
MIB = 1 << 20


@dataclass(frozen=True)
class Engines:
    """Addresses of the engines with their administrator; all on loopback."""

    postgresql: str
    clickhouse: str
    rabbitmq: str
    management: str


def _script(
    *arguments: str,
    environment: dict[str, str] | None = None,
    wrapper: Sequence[str] = (),
    check: bool = True,
) -> str:
    """Run ``scripts/engines`` and return what it printed."""
    done = subprocess.run(
        [*wrapper, sys.executable, str(SCRIPT), *arguments],
        capture_output=True, text=True, timeout=UP_S, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if check and done.returncode:
        raise RuntimeError(f"scripts/engines {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


@cache
def engines() -> Engines:
    """The shared engines, started if they do not run. Raises RuntimeError when they cannot."""
    _script("up")
    rows: list[dict[str, Any]] = json.loads(_script("status", "--json"))
    return Engines(**{name: url for row in rows for name, url in row["urls"].items()})


def fresh_name() -> str:
    """A name that no other test has."""
    return f"test_{uuid.uuid4().hex[:16]}"


def psql(text: str, url: str | None = None) -> str:
    """What PostgreSQL answers, in psql's bare form: a line a row, ``|`` between columns."""
    done = subprocess.run(
        ["psql", "-XAtqv", "ON_ERROR_STOP=1", "-c", text, url or engines().postgresql],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


@contextlib.contextmanager
def postgresql_database(collation: str = "C", icu: str = "") -> Iterator[str]:
    """A new database in UTF-8, dropped afterwards: yields its URL.

    It sorts texts by a collation of the machine (``C``, ``C.UTF-8``), or by the language that
    ``icu`` names, such as ``en-US``: there ``B`` comes after ``a``.
    """
    name, admin = fresh_name(), engines().postgresql
    order = f"locale '{collation}'" + (f" locale_provider icu icu_locale '{icu}'" if icu else "")
    psql(f"create database {name} template template0 encoding 'UTF8' {order}")
    try:
        yield f"{admin.rpartition('/')[0]}/{name}"
    finally:
        psql(f"drop database {name} with (force)")


def clickhouse(text: str, url: str | None = None) -> str:
    """What ClickHouse answers to one statement over HTTP."""
    parts = urlsplit(url or engines().clickhouse)
    reply = httpx.post(
        f"http://{parts.hostname}:{parts.port}/",
        params={"database": parts.path.strip("/") or "default"},
        content=text.encode(), auth=(parts.username or "", parts.password or ""), timeout=60,
    )  # fmt: skip
    if reply.status_code != 200:
        raise RuntimeError(reply.text)
    return reply.text.strip()


@contextlib.contextmanager
def clickhouse_database() -> Iterator[str]:
    """A new database, dropped afterwards: yields its URL."""
    name, admin = fresh_name(), engines().clickhouse
    clickhouse(f"CREATE DATABASE {name}")
    try:
        yield f"{admin.rpartition('/')[0]}/{name}"
    finally:
        clickhouse(f"DROP DATABASE IF EXISTS {name}")


def rabbitmq(method: str, path: str, body: object = None, url: str | None = None) -> Any:
    """What RabbitMQ's management API answers; None when it has nothing to say."""
    reply = httpx.request(
        method, f"{url or engines().management}/api/{path}", json=body, timeout=60
    )  # fmt: skip
    reply.raise_for_status()
    return reply.json() if reply.content else None


@contextlib.contextmanager
def rabbitmq_vhost() -> Iterator[str]:
    """A new vhost that the administrator may use, removed afterwards: yields its AMQP URL."""
    name, admin = fresh_name(), engines().rabbitmq
    user = urlsplit(admin).username
    rabbitmq("PUT", f"vhosts/{name}", {})
    try:
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        rabbitmq("PUT", f"permissions/{name}/{user}", rights)
        yield f"{admin.rpartition('/')[0]}/{name}"
    finally:
        rabbitmq("DELETE", f"vhosts/{name}")


# --- engines of one test's own -------------------------------------------------------------------


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _alive(process: psutil.Process) -> bool:
    """Whether it runs; dead and not reaped by init yet, it does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


class OwnEngines:
    """Engines of one test, in a folder and on ports of their own; all gone when it ends.

    ``small`` gives some of them a disk of so many bytes (a tmpfs in a mount namespace of theirs;
    needs the right to mount: the test is skipped without), which ``fill`` fills. ::

        with OwnEngines("rabbitmq", small={"postgresql": 256 * MIB}) as own:
            own.kill("rabbitmq")
            own.start("rabbitmq")
    """

    def __init__(self, *names: str, small: dict[str, int] | None = None) -> None:
        self.small = small or {}
        self.names = tuple(dict.fromkeys((*names, *self.small))) or NAMES
        # Not below pytest's folder, which PostgreSQL's user may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="heliometer-own-"))
        self.folder.chmod(0o711)
        self._environment = {
            "HELIOMETER_ENGINES_DIR": str(self.folder / "engines"),
            "HELIOMETER_ENGINES_PORTS": str(free_ports(8)),
        }
        self._holder: subprocess.Popen[str] | None = None
        self._wrapper: list[str] = []
        self.urls: Engines

    def __enter__(self) -> Self:
        """Start them."""
        try:
            if self.small:
                self._mount()
            _script("up", *self.names, environment=self._environment, wrapper=self._wrapper)
            rows = self._rows()
            self.urls = Engines(**{name: url for row in rows for name, url in row["urls"].items()})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End them, and remove everything."""
        try:
            for name in self.names:
                if self.small.get(name):
                    self.relieve(name)
            _script("down", "--wipe", environment=self._environment, wrapper=self._wrapper)
        finally:
            if self._holder is not None:
                self._holder.terminate()
                self._holder.wait(10)
                assert self._holder.stdout is not None
                self._holder.stdout.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _mount(self) -> None:
        """Mount small disks, visible to the engines alone, until the holder ends."""
        mounts = []
        for name, size in self.small.items():
            (self.folder / "engines" / name).mkdir(parents=True)
            mounts.append(
                f"mount -t tmpfs -o size={size},mode=0711 tmpfs {self.folder}/engines/{name}"
            )
        (self.folder / "engines").chmod(0o711)
        # An ordinary user gets a user namespace in which it stays itself and may mount.
        own = ["-m"] if os.geteuid() == 0 else ["-m", "--map-current-user", "--keep-caps"]
        script = " && ".join([*mounts, "echo mounted", "exec sleep infinity"])
        self._holder = subprocess.Popen(
            ["unshare", *own, "sh", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if (line := self._holder.stdout.readline()) != "mounted\n":
            pytest.skip(f"may not mount: {line}")
        into = ["-m"] if os.geteuid() == 0 else ["-m", "-U", "--preserve-credentials"]
        self._wrapper = ["nsenter", "-t", str(self._holder.pid), *into, "--"]

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(
            _script("status", "--json", environment=self._environment, wrapper=self._wrapper,
                    check=False)
        )  # fmt: skip
        return rows

    def pid(self, name: str) -> int | None:
        """The process id of an engine's server; None when it does not run."""
        pids: dict[str, int | None] = {row["engine"]: row["pid"] for row in self._rows()}
        return pids[name]

    def health(self, name: str) -> str:
        """``ok``, ``paused``, ``died``, ``down``, or what else is wrong."""
        states: dict[str, str] = {row["engine"]: row["health"] for row in self._rows()}
        return states[name]

    def wait_for_disk_alarm(self, on: bool) -> None:
        """Wait until RabbitMQ blocks publishers for want of room, or does no longer."""

        def alarm() -> bool:
            (node,) = rabbitmq("GET", "nodes", url=self.urls.management)
            return bool(node.get("disk_free_alarm"))

        eventually(lambda: alarm() == on, why=lambda: f"the alarm is not {on}", pause_s=0.2)

    def _signal(self, name: str, number: int) -> list[psutil.Process]:
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        family = _family(pid)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return family

    def pause(self, name: str) -> None:
        """Freeze an engine with all its processes: connections stay, nothing answers."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._signal(name, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End an engine with all its processes at once, as a power cut would."""
        family = self._signal(name, signal.SIGKILL)
        eventually(lambda: not any(map(_alive, family)), why=lambda: f"{name} outlives SIGKILL")

    def start(self, name: str) -> None:
        """Start an engine again, and wait until it answers."""
        _script("up", name, environment=self._environment, wrapper=self._wrapper)

    def stop(self, name: str) -> None:
        """End an engine in good order; its data stays."""
        _script("down", name, environment=self._environment, wrapper=self._wrapper)

    def restart(self, name: str) -> None:
        """Stop and start an engine in good order."""
        self.stop(name)
        self.start(name)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl, such as ``control("set_disk_free_limit", "100GB")``."""
        return _script("rabbitmqctl", *arguments, environment=self._environment)

    def _filler(self, name: str) -> Path:
        """The file that takes up the room, as seen from here."""
        assert self._holder is not None, "no small disk"
        root = Path(f"/proc/{self._holder.pid}/root")
        return root / str(self.folder).strip("/") / "engines" / name / "filler"

    def free(self, name: str) -> int:
        """Bytes that are free on an engine's small disk."""
        where = os.statvfs(self._filler(name).parent)
        return where.f_bavail * where.f_frsize

    def fill(self, name: str, leave: int = 0) -> None:
        """Fill an engine's small disk but for so many bytes."""
        with self._filler(name).open("ab") as filler, contextlib.suppress(OSError):
            while (room := self.free(name) - leave) > 0:
                filler.write(b"\0" * min(room, MIB))
                filler.flush()

    def relieve(self, name: str) -> None:
        """Give the room back."""
        with contextlib.suppress(OSError):
            self._filler(name).unlink()


# --- nginx ---------------------------------------------------------------------------------------


class Nginx:
    """nginx with ``packaging/nginx.conf``, with other addresses, before some API processes."""

    def __init__(self, folder: Path, upstreams: Sequence[str]) -> None:
        """``folder`` is for its files; ``upstreams`` are URLs of API processes."""
        self._folder = folder
        self._upstreams = upstreams
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def _write(self) -> Path:
        site = (ROOT / "packaging" / "nginx.conf").read_text()
        options = re.findall(r"    server 127\.0\.0\.1:\d+( .*;)\n", site)
        assert len(options) == 2, "packaging/nginx.conf names two processes"
        site = re.sub(r"    server 127\.0\.0\.1:\d+ .*;\n", "", site)
        servers = "".join(
            f"    server {urlsplit(url).netloc}{options[0]}\n" for url in self._upstreams
        )
        site = site.replace("    least_conn;\n", f"    least_conn;\n{servers}")
        site = site.replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        folder = self._folder
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # Its workers need files below pytest's folder, which only we may enter.
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        (folder / "site.conf").write_text(site)
        configuration = folder / "nginx.conf"
        configuration.write_text(
            f"daemon off; {user} worker_processes 1; pid {folder}/pid; error_log {folder}/log;\n"
            f"events {{}}\nhttp {{ access_log off; {temporary}\n include {folder}/site.conf; }}\n"
        )
        return configuration

    def start(self) -> Self:
        """Start it, and wait until it listens. Raises RuntimeError when it does not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.fail("nginx is not installed: run scripts/test-engines")
        log = self._folder / "log"
        self._process = subprocess.Popen(
            [program, "-c", str(self._write()), "-p", str(self._folder), "-e", str(log)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"nginx: {log.read_text()[-2000:]}")
            time.sleep(0.02)

    def use(self, upstreams: Sequence[str]) -> None:
        """Send requests to these processes from now on; return when none goes to others."""
        assert self._process is not None
        self._upstreams = upstreams
        self._write()
        before = _family(self._process.pid)[1:]
        self._process.send_signal(signal.SIGHUP)
        eventually(
            lambda: not any(map(_alive, before)), why=lambda: "nginx still has requests of before"
        )

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def start_nginx(folder: Path, upstreams: Sequence[str]) -> Iterator[Nginx]:
    """nginx before API processes with these URLs, by ``packaging/nginx.conf``; see ``.url``."""
    nginx = Nginx(folder, upstreams).start()
    try:
        yield nginx
    finally:
        nginx.stop()
