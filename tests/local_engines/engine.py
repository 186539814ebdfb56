"""What all engines have in common: start, wait until it answers, stop, wipe, health."""

import base64
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from local_engines.processes import alive, arguments, family, fields, gone, holder, processes, send

USER = "heliometer"
START_S, STOP_S, ANSWER_S = 120, 30, 5


class EngineError(Exception):
    """One engine cannot be started, stopped or asked; the text is for people."""


def require_free_port(name: str, port: int) -> None:
    """Raise EngineError, naming the process, when something else has the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise EngineError(
                f"port {port} ({name}) is taken by {holder(port)}; choose another in "
                f"HELIOMETER_ENGINES_PORTS, such as {name}={port + 1000}"
            ) from None


def fetch(url: str, user: str = "", password: str = "", data: bytes | None = None,
          method: str | None = None) -> str:  # fmt: skip
    """The body of a reply. Raises OSError when there is none, or it is a fault."""
    request = urllib.request.Request(url, data=data, method=method)
    if user:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    if data is not None:
        request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=ANSWER_S) as reply:
        text: str = reply.read().decode()
        return text


class Engine:
    """What all three have in common; the dictionary ENGINES has the kinds."""

    name = ""
    ports: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    stop_signal = signal.SIGTERM
    wipe_signal = signal.SIGKILL  # where data goes too, nothing needs to be put in order
    patience_s = 0.0  # how long leftovers of a dead server may take to end by themselves

    def __init__(self, folder: Path, ports: dict[str, int], password: str) -> None:
        self.folder = folder / self.name
        self.port = ports
        self.password = password

    # What each kind says for itself.

    def program(self) -> str | None:
        """Path of the server's program; None when it is not installed."""
        raise NotImplementedError

    def matches(self, command: list[str]) -> bool:
        """Whether this is the command line of this engine's server."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Write what it needs before it starts."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The command line of the server."""
        raise NotImplementedError

    def version(self) -> str:
        """Its version, by a question that it must answer. Raises EngineError."""
        raise NotImplementedError

    def furnish(self) -> None:
        """Make the database or vhost of the ready configuration, unless it is there."""
        raise NotImplementedError

    def urls(self) -> dict[str, str]:
        """Names and addresses of what it offers, with the administrator's password."""
        raise NotImplementedError

    def settings(self) -> list[tuple[str, str, str]]:
        """Section, key and value of Heliometer's settings for it."""
        raise NotImplementedError

    def leftovers(self) -> list[int]:
        """Processes that a dead server left behind."""
        return []

    def environment(self) -> dict[str, str]:
        """Environment of the server: nothing that would turn it to others' files."""
        foreign = ("RABBITMQ_", "ERL_", "PG", "CLICKHOUSE_", "HELIOMETER_")
        return {key: value for key, value in os.environ.items() if not key.startswith(foreign)}

    def owner(self) -> pwd.struct_passwd | None:
        """Whom the server runs as; None: as we do."""
        return None

    # What is the same for all.

    def pid(self) -> int | None:
        """The server's process, or None."""
        found = [pid for pid in processes() if self.matches(arguments(pid))]
        # A child that is just forked looks like its parent.
        for pid in found:
            state = fields(pid)
            if state and int(state[1]) not in found:
                return pid
        return None

    def healthy_once(self) -> Path:
        """Is there once the server worked: what an interrupted first start left is not kept."""
        return self.folder / "ready"

    def wanted(self) -> Path:
        """Is there from ``up`` to ``down``: tells a crash from an end."""
        return self.folder / "wanted"

    def make_folder(self) -> None:
        """See that the folder is there, and begin anew where a first start did not come far."""
        if self.folder.is_symlink() and not self.folder.exists():
            self.folder.unlink()  # what it pointed to was cleaned away
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.healthy_once().exists():
            for entry in self.folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()

    def launch(self, command: list[str]) -> int:
        """Start a process that outlives us; return its id."""
        who = self.owner()
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                command, env=self.environment(), cwd="/" if who else self.folder,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, user=who.pw_uid if who else None,
                group=who.pw_gid if who else None, extra_groups=[] if who else None,
            ).pid  # fmt: skip

    def up(self) -> bool:
        """Start it unless it runs, and wait until it answers; return whether it was started."""
        running = self.pid()
        pid = running if running is not None else self.begin()
        if fields(pid)[:1] == ["T"]:
            for process in family(pid):
                send(process, signal.SIGCONT)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.version()
                break
            except EngineError as error:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                if not alive(pid):
                    raise EngineError(f"ended at once: {self.last_words()}") from None
                if time.monotonic() > deadline:
                    raise EngineError(f"does not answer after {START_S} s: {error}") from None
                time.sleep(0.1)
        self.furnish()
        self.healthy_once().touch()
        self.wanted().touch()
        return running is None

    def begin(self) -> int:
        """Start the server's process; return its id."""
        if self.program() is None:
            raise EngineError("is not installed; scripts/engines up --install does it")
        left = self.leftovers()
        if not gone(left, self.patience_s):
            for process in left:
                send(process, signal.SIGKILL)
            gone(left, 5)
        for name in self.ports:
            require_free_port(name, self.port[name])
        self.make_folder()
        (self.folder / "output").unlink(missing_ok=True)
        self.prepare()
        self.wanted().touch()
        return self.launch(self.command())

    def last_words(self) -> str:
        """The end of what the server said."""
        with contextlib.suppress(OSError):
            lines = (self.folder / "output").read_text(errors="replace").splitlines()
            return " / ".join(line for line in lines if line.strip())[-700:]
        return "without a word"

    def down(self, wipe: bool) -> bool:
        """Stop it; return whether it ran."""
        self.wanted().unlink(missing_ok=True)
        pid = self.pid()
        if pid is None:
            for each in self.leftovers():
                send(each, signal.SIGKILL)
            return False
        everybody = family(pid)
        for each in everybody:
            send(each, signal.SIGCONT)
        if wipe and self.wipe_signal == signal.SIGKILL:
            for each in everybody:
                send(each, signal.SIGKILL)
        else:
            send(pid, self.wipe_signal if wipe else self.stop_signal)
        if not gone(everybody, STOP_S):
            for each in everybody:
                send(each, signal.SIGKILL)
            gone(everybody, 5)
        for each in self.leftovers():
            send(each, signal.SIGKILL)
        return True

    def wipe(self) -> None:
        """Remove data and logs."""
        if self.folder.is_symlink():
            shutil.rmtree(self.folder.resolve(), ignore_errors=True)
            self.folder.unlink()
        elif self.folder.exists():
            for entry in self.folder.iterdir():  # the folder itself may be a mount
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def health(self) -> tuple[str, str]:
        """Version and state: ``ok``, or what is wrong."""
        pid = self.pid()
        if pid is None:
            return "-", "died" if self.wanted().exists() else "down"
        if fields(pid)[:1] == ["T"]:
            return "-", "paused"
        try:
            return self.version(), "ok"
        except EngineError as error:
            return "-", str(error)[:60]
