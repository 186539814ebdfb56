"""PostgreSQL, of the newest version that is installed."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from local_engines.engine import ANSWER_S, USER, Engine, EngineError
from local_engines.processes import arguments, fields, processes


class PostgreSQL(Engine):
    """One server; fsync is on, since tests kill it."""

    name = "postgresql"
    ports = ("postgresql",)
    packages = ("postgresql",)
    stop_signal = signal.SIGINT  # fast: ends sessions, writes a checkpoint
    wipe_signal = signal.SIGQUIT  # at once, but gives shared memory back
    patience_s = 5.0

    @staticmethod
    def _bin(tool: str) -> str | None:
        versions = Path("/usr/lib/postgresql").glob(f"*/bin/{tool}")
        newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
        return str(newest) if newest else shutil.which(tool)

    def program(self) -> str | None:
        return self._bin("postgres")

    def owner(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):  # it refuses to run as root
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        raise EngineError("no user to run it as: neither postgres nor nobody is there")

    def _data(self) -> Path:
        return self.folder.resolve() / "data"

    def matches(self, command: list[str]) -> bool:
        return (
            len(command) > 2
            and os.path.basename(command[0]) == "postgres"
            and command[1:3] == ["-D", str(self._data())]
        )

    def leftovers(self) -> list[int]:
        found = []
        for pid in processes():
            with contextlib.suppress(OSError):
                titles = "".join(arguments(pid)[:1])
                inside = os.readlink(f"/proc/{pid}/cwd") == str(self._data())
                if inside and titles.startswith("postgres:"):
                    found.append(pid)
        return found

    def make_folder(self) -> None:
        """Where its user may not enter the checkout, the data lies in /var/tmp."""
        who = self.owner()
        if who is not None and not self.folder.is_symlink():
            self.folder.mkdir(parents=True, exist_ok=True)
            enters = ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}",
                      "--clear-groups", "test", "-x", str(self.folder)]  # fmt: skip
            if subprocess.run(enters, cwd="/").returncode:
                self.folder.rmdir()
                elsewhere = tempfile.mkdtemp(prefix="heliometer-engines-", dir="/var/tmp")
                os.chmod(elsewhere, 0o711)
                self.folder.symlink_to(elsewhere)
        super().make_folder()

    def prepare(self) -> None:
        if self._data().exists():
            # It takes a killed one that init has not reaped yet for alive.
            note = self._data() / "postmaster.pid"
            if note.exists() and fields(int(note.read_text().split()[0]))[:1] == ["Z"]:
                note.unlink()
            return
        who = self.owner()
        data = self._data()
        data.mkdir(mode=0o700)
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if who is not None:
            os.chown(data, who.pw_uid, who.pw_gid)
            os.chown(secret, who.pw_uid, who.pw_gid)
        initdb = self._bin("initdb")
        if initdb is None:
            raise EngineError("initdb is missing beside the server")
        done = subprocess.run(
            [initdb, "-D", str(data), "-U", USER, f"--pwfile={secret.resolve()}",
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"],
            capture_output=True, text=True, env=self.environment(), cwd="/",
            user=who.pw_uid if who else None, group=who.pw_gid if who else None,
            extra_groups=[] if who else None,
        )  # fmt: skip
        secret.unlink()
        if done.returncode:
            raise EngineError(f"initdb: {done.stderr.strip()[-500:]}")

    def command(self) -> list[str]:
        program = self.program()
        assert program is not None
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port["postgresql"],
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "on",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
        }
        return [program, "-D", str(self._data()),
                *(f"--{key}={value}" for key, value in options.items())]  # fmt: skip

    def query(self, text: str, database: str = "postgres") -> str:
        """Ask with psql. Raises EngineError."""
        psql = self._bin("psql")
        if psql is None:
            raise EngineError("psql is missing")
        environment = {**self.environment(), "PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "3"}
        where = [psql, "-h", "127.0.0.1", "-p", str(self.port["postgresql"]), "-U", USER]
        try:
            done = subprocess.run(
                [*where, "-d", database, "-XAtqc", text],
                capture_output=True, text=True, env=environment, timeout=ANSWER_S, cwd="/",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EngineError("does not answer") from None
        if done.returncode:
            raise EngineError(done.stderr.strip() or "psql failed")
        return done.stdout.strip()

    def version(self) -> str:
        return self.query("show server_version").split()[0]

    def furnish(self) -> None:
        if not self.query(f"select 1 from pg_database where datname = '{USER}'"):
            self.query(f"create database {USER} template template0 encoding 'UTF8' locale 'C'")

    def urls(self) -> dict[str, str]:
        where = f"127.0.0.1:{self.port['postgresql']}"
        return {"postgresql": f"postgresql://{USER}:{self.password}@{where}/postgres"}

    def settings(self) -> list[tuple[str, str, str]]:
        url = self.urls()["postgresql"].rpartition("/")[0]
        return [("resources", "url", f"{url}/{USER}")]
