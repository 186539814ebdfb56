"""RabbitMQ with its port mapper."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

from local_engines.engine import USER, Engine, EngineError, fetch
from local_engines.processes import arguments, processes


class RabbitMQ(Engine):
    """One node with the management plugin, and a port mapper of its own."""

    name = "rabbitmq"
    ports = ("rabbitmq", "management", "rabbitmq-distribution", "epmd")
    packages = ("rabbitmq-server",)
    # Debian wraps these in others that go over to a user of its own.
    programs = Path("/usr/lib/rabbitmq/bin")

    def program(self) -> str | None:
        program = self.programs / "rabbitmq-server"
        return str(program) if program.exists() else None

    def matches(self, command: list[str]) -> bool:
        if not command or not os.path.basename(command[0]).startswith("beam"):
            return False
        home = ("-home", str(self.folder.resolve()))
        return home in itertools.pairwise(command) and "rabbit" in command

    def _mapper(self) -> int | None:
        """The process of the port mapper."""
        wanted = ["-port", str(self.port["epmd"]), "-address", "127.0.0.1"]
        home = f"HOME={self.folder.resolve()}".encode()
        for pid in processes():
            command = arguments(pid)
            if command[1:] == wanted and os.path.basename(command[0]) == "epmd":
                with contextlib.suppress(OSError):
                    if home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                        return pid
        return None

    def leftovers(self) -> list[int]:
        mapper = self._mapper()
        return [] if mapper is None else [mapper]

    def environment(self) -> dict[str, str]:
        folder = self.folder.resolve()
        return {
            **super().environment(),
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"heliometer{self.port['rabbitmq']}@localhost",
            "RABBITMQ_DIST_PORT": str(self.port["rabbitmq-distribution"]),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # Two schedulers; and nothing that waits busily, which takes a core from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} "
                "+sbwt none +sbwtdcpu none +sbwtdio none"
            ),
            "ERL_EPMD_PORT": str(self.port["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": "/dev/null",
            # Makes the script become the server, with no shell between that signals would meet.
            "detached": "1",
        }

    def prepare(self) -> None:
        folder = self.folder.resolve()
        (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        configuration = folder / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port['rabbitmq']}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.port['management']}\n"
            f"default_user = {USER}\ndefault_pass = {self.password}\n"
            "default_user_tags.administrator = true\n"
            "collect_statistics_interval = 1000\n"
            "vm_memory_high_watermark.absolute = 2GB\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        # Its own mapper, started here: one that the node starts would be hard to find again.
        epmd = shutil.which("epmd")
        if epmd is None:
            raise EngineError("epmd is missing; it comes with Erlang")
        self.launch([epmd, "-port", str(self.port["epmd"]), "-address", "127.0.0.1"])

    def command(self) -> list[str]:
        return [str(self.programs / "rabbitmq-server")]

    def _api(self, path: str, data: bytes | None = None, method: str | None = None) -> str:
        url = f"http://127.0.0.1:{self.port['management']}/api/{path}"
        try:
            return fetch(url, USER, self.password, data, method)
        except (OSError, ValueError) as error:
            raise EngineError(f"does not answer: {error}") from None

    def version(self) -> str:
        overview = json.loads(self._api("overview"))
        # The management API comes up before the listeners do.
        protocols = {each["protocol"] for each in overview.get("listeners", [])}
        if "amqp" not in protocols:
            raise EngineError("starts")
        return str(overview["rabbitmq_version"])

    def furnish(self) -> None:
        self._api(f"vhosts/{USER}", b"{}", "PUT")
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self._api(f"permissions/{USER}/{USER}", json.dumps(rights).encode(), "PUT")

    def urls(self) -> dict[str, str]:
        return {
            "rabbitmq": f"amqp://{USER}:{self.password}@127.0.0.1:{self.port['rabbitmq']}/",
            "management": f"http://{USER}:{self.password}@127.0.0.1:{self.port['management']}",
        }

    def settings(self) -> list[tuple[str, str, str]]:
        amqp = self.urls()["rabbitmq"].rstrip("/")
        return [
            ("bus", "url", f"{amqp}/{USER}"),
            ("amqp", "backend", "rabbitmq"),
            ("amqp", "url", amqp),
            ("amqp", "management_url", f"http://127.0.0.1:{self.port['management']}"),
        ]

    def control(self, arguments: list[str]) -> int:
        """Run rabbitmqctl against this node; return its exit status."""
        return subprocess.run(
            [str(self.programs / "rabbitmqctl"), *arguments], env=self.environment()
        ).returncode
