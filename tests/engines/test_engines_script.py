"""``scripts/engines``, and what tests do to engines of their own."""

import json
import os
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil  # type: ignore[import-untyped]
import pytest

from engine_servers import (
    MIB,
    NAMES,
    SCRIPT,
    OwnEngines,
    clickhouse,
    clickhouse_database,
    postgresql_database,
    psql,
    rabbitmq,
    rabbitmq_vhost,
)
from heliometer.config import Settings
from ports import free_ports

pytestmark = pytest.mark.engines


@dataclass(frozen=True)
class Script:
    """``scripts/engines`` in a folder of its own."""

    folder: Path
    ports: int

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), *arguments], capture_output=True, text=True, timeout=180,
            env={**os.environ, "HELIOMETER_ENGINES_DIR": str(self.folder),
                 "HELIOMETER_ENGINES_PORTS": str(self.ports)},
        )  # fmt: skip

    def rows(self) -> dict[str, dict[str, Any]]:
        """What ``status`` says, by engine."""
        return {row["engine"]: row for row in json.loads(self("status", "--json").stdout)}

    def processes(self) -> list[str]:
        """Command lines of everything that runs from this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                told = {process.environ().get("HOME", ""), process.cwd(), *process.cmdline()}
                if process.status() != psutil.STATUS_ZOMBIE and any(
                    str(self.folder) in each for each in told
                ):
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
        return found


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """In pytest's folder, which PostgreSQL's user may not enter when we are root."""
    running = Script(tmp_path / "engines", free_ports(8))
    yield running
    running("down", "--wipe")


def test_up_status_crash_repair_and_down(script: Script) -> None:
    assert script("status").returncode == 1
    begun = time.monotonic()
    up = script("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert time.monotonic() - begun < 60
    before = script.rows()
    assert {name: row["health"] for name, row in before.items()} == dict.fromkeys(NAMES, "ok")
    shown = script("status")
    assert shown.returncode == 0
    assert before["rabbitmq"]["version"] in shown.stdout
    assert before["postgresql"]["urls"]["postgresql"].split(":")[2].split("@")[0] not in (
        shown.stdout
    ), "status shows the password"

    # The port mapper of RabbitMQ is the fourth.
    assert len([each for each in script.processes() if not each.startswith("postgres:")]) >= 4
    again = script("up")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is up already") == 3
    assert {name: row["pid"] for name, row in script.rows().items()} == {
        name: row["pid"] for name, row in before.items()
    }

    url = before["postgresql"]["urls"]["postgresql"]
    psql("create table kept (x int); insert into kept values (17)", url)
    for name in NAMES:
        os.kill(before[name]["pid"], signal.SIGKILL)
        died = script("status")
        assert died.returncode == 1
        assert script.rows()[name]["health"] == "died"
        repaired = script("up", name)
        assert repaired.returncode == 0, repaired.stdout + repaired.stderr
        assert script.rows()[name]["health"] == "ok"
    assert psql("select x from kept", url) == "17"

    assert script("down", "clickhouse").returncode == 0
    health = {name: row["health"] for name, row in script.rows().items()}
    assert health == {"postgresql": "ok", "clickhouse": "down", "rabbitmq": "ok"}
    assert script("down").returncode == 0
    assert script("down").returncode == 0, "down twice"
    assert script.processes() == []
    assert script("up", "postgresql").returncode == 0
    assert psql("select x from kept", url) == "17", "down keeps data"
    elsewhere = (script.folder / "postgresql").resolve()
    assert script("down", "--wipe").returncode == 0
    assert not script.folder.exists()
    assert not elsewhere.exists()
    assert script.processes() == []


def test_the_ready_configuration_is_valid_and_leads_to_the_engines(script: Script) -> None:
    assert script("up").returncode == 0
    path = script.folder / "heliometer.toml"
    assert path.stat().st_mode & 0o077 == 0, "others may read the password"
    settings = msgspec.convert(tomllib.loads(path.read_text()), Settings)
    assert psql("show server_encoding", settings.resources.url) == "UTF8"
    assert clickhouse("SELECT currentDatabase()", settings.metrics.url) == "heliometer"
    assert settings.amqp.backend == "rabbitmq"
    auth = settings.amqp.url.removeprefix("amqp://").rpartition("@")[0].split(":")
    reply = httpx.get(f"{settings.amqp.management_url}/api/vhosts", auth=(auth[0], auth[1]))
    vhosts = {each["name"] for each in reply.json()}
    assert settings.bus.url.rpartition("/")[2] in vhosts

    env = subprocess.run(
        ["sh", "-c", f". {script.folder / 'env'} && env"], capture_output=True, text=True
    ).stdout
    assert f"HELIOMETER_RESOURCES_URL={settings.resources.url}\n" in env
    assert f"HELIOMETER_BUS_URL={settings.bus.url}\n" in env


def test_a_port_that_is_taken_is_said_with_who_has_it(script: Script) -> None:
    with closing(socket.create_server(("127.0.0.1", script.ports))):
        up = script("up", "postgresql")
    assert up.returncode == 1
    assert f"port {script.ports} (postgresql) is taken by process {os.getpid()}" in up.stderr
    assert script("up", "postgresql").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "ports", "why"),
    [
        (("up", "mysql"), "", "'mysql' is none of postgresql, clickhouse, rabbitmq"),
        (("up",), "postgresql", "'postgresql' is none of"),
        (("up",), "mysql=1", "'mysql=1' is none of"),
        (("up",), "postgresql=70000", "'postgresql=70000' is none of"),
    ],
)
def test_wrong_words_get_one_line(
    tmp_path: Path, arguments: tuple[str, ...], ports: str, why: str
) -> None:
    done = subprocess.run(
        [str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60,
        env={**os.environ, "HELIOMETER_ENGINES_DIR": str(tmp_path / "engines"),
             "HELIOMETER_ENGINES_PORTS": ports},
    )  # fmt: skip
    assert done.returncode == 1
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_databases_and_vhosts_of_one_test_are_gone_afterwards() -> None:
    with postgresql_database() as url:
        name = url.rpartition("/")[2]
        assert psql("select current_database(), 'B' < 'a'", url) == f"{name}|t"
    assert psql(f"select count(*) from pg_database where datname = '{name}'") == "0"
    with postgresql_database(icu="en-US") as url:
        assert psql("select 'B' < 'a'", url) == "f"
    with clickhouse_database() as url:
        name = url.rpartition("/")[2]
        assert clickhouse("SELECT currentDatabase()", url) == name
    assert name not in clickhouse("SHOW DATABASES").split()
    with rabbitmq_vhost() as url:
        name = url.rpartition("/")[2]
        assert rabbitmq("GET", f"vhosts/{name}")["name"] == name
    assert name not in {each["name"] for each in rabbitmq("GET", "vhosts")}


def test_own_engines_freeze_die_fill_up_and_come_back() -> None:
    with OwnEngines(small=dict.fromkeys(NAMES, 200 * MIB)) as own:
        urls = own.urls
        for name in NAMES:
            own.pause(name)
            assert own.health(name) == "paused"
            own.resume(name)
            assert own.health(name) == "ok"
            own.kill(name)
            assert own.health(name) == "died"
            own.start(name)
            assert own.health(name) == "ok"

        psql("create table t (x text)", urls.postgresql)
        own.fill("postgresql")
        with pytest.raises(RuntimeError, match="No space left"):
            psql("insert into t select repeat('x', 1000) from generate_series(1, 100000)",
                 urls.postgresql)  # fmt: skip
        own.relieve("postgresql")
        psql("insert into t values ('room')", urls.postgresql)

        clickhouse("CREATE TABLE t (x String) ENGINE = MergeTree ORDER BY x", urls.clickhouse)
        own.fill("clickhouse")
        with pytest.raises(RuntimeError, match=r"No space left|[Nn]ot enough space"):
            clickhouse("INSERT INTO t SELECT toString(rand64()) FROM numbers(1000000)",
                       urls.clickhouse)  # fmt: skip
        own.relieve("clickhouse")
        clickhouse("INSERT INTO t SELECT toString(rand64()) FROM numbers(10)", urls.clickhouse)

        own.fill("rabbitmq", leave=20 * MIB)
        own.wait_for_disk_alarm(True)
        own.relieve("rabbitmq")
        own.wait_for_disk_alarm(False)
        folder = own.folder
    assert not folder.exists()
