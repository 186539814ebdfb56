"""A store that is empty, cut or gone beside others is no first start: the server says so, deletes
nothing, and what can be saved is saved."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from conftest import PASSWORD, RunningServer, embedded_only
from eventually import eventually
from heliometer.server.control_client import command

pytestmark = embedded_only

POINTS = 50
DAY_S = 86_400


def post(server: RunningServer, name: str, start_s: int, count: int = POINTS) -> None:
    pairs = [[start_s + i, float(i)] for i in range(count)]
    body = [{"namespace": "damage", "dimensions": {"name": name}, "time_values": pairs}]
    with server.client() as client:
        reply = client.post("/v1.1/metrics", json=body)
        assert reply.status_code == 204, reply.text


def stored(server: RunningServer, name: str) -> int:
    """How many measurements of a series there are."""
    query = {
        "namespace": "damage",
        "dimensions": f"name:{name}",
        "start_time": datetime.fromtimestamp(time.time() - 10 * DAY_S, UTC).isoformat(),
        "statistics": "count",
        "period": "86400",
    }
    with server.client() as client:
        reply = client.get("/v1.1/metrics", params=query)
    assert reply.status_code == 200, reply.text
    return int(sum(sum(series["datapoints"]["count"]) for series in reply.json()))


def refused(server: RunningServer) -> str:
    """What a start that fails says."""
    done = subprocess.run(
        [sys.executable, "-m", "heliometer", "serve", "--listen", "127.0.0.1:0",
         "--data-dir", str(server.data_dir)],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "ready" not in done.stdout
    return done.stderr


def files(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_catalogue_that_is_gone_is_rebuilt_from_the_partitions(
    fresh_server: RunningServer,
) -> None:
    server = fresh_server.start()
    now = int(time.time())
    post(server, "sealed", now - 3 * DAY_S)
    command(server.data_dir, "seal", {})
    post(server, "recent", now - 100)
    server.stop(signal.SIGKILL)
    database = server.data_dir / "metrics" / "recent.duckdb"
    database.write_bytes(b"")
    kept = files(server.data_dir / "metrics" / "partitions")

    said = refused(server)
    assert "recent.duckdb is empty" in said
    assert "heliometer repair" in said
    dry = server.command("repair")
    assert "nothing was changed" in dry.stdout
    assert f"{POINTS} measurements" in dry.stdout
    assert database.read_bytes() == b""
    applied = server.command("repair", "--apply")
    assert applied.returncode == 0, applied.stderr
    assert kept <= files(server.data_dir)

    server.start()
    assert stored(server, "sealed") == POINTS
    post(server, "recent", now - 50)
    assert stored(server, "recent") == POINTS


def test_resources_that_are_gone_are_no_first_start(fresh_server: RunningServer) -> None:
    server = fresh_server.start()
    now = int(time.time())
    post(server, "kept", now - 100)
    assert server.stop() == 0
    resources = server.data_dir / "resources.sqlite"
    resources.unlink()

    said = refused(server)
    assert "resources.sqlite is gone" in said
    assert "heliometer repair" in said
    assert not resources.exists()
    applied = server.command("repair", "--apply")
    assert "lost: users" in applied.stdout, applied.stdout
    projects = server.command("project", "list").stdout
    assert "recovered-" in projects
    project = next(word for word in projects.split() if word.startswith("recovered-"))
    made = server.command(
        "user", "create", "again", "--project", project, "--password-stdin", text=PASSWORD
    )
    assert made.returncode == 0, made.stderr
    server.username, server.project, server._token = "again", project, ""
    server.start()
    assert stored(server, "kept") == POINTS
    assert server.stop() == 0


def test_a_flipped_bit_in_a_partition_is_found_while_serving(fresh_server: RunningServer) -> None:
    server = fresh_server.start()
    now = int(time.time())
    post(server, "whole", now - 3 * DAY_S)
    post(server, "damaged", now - 4 * DAY_S)
    command(server.data_dir, "seal", {})
    assert stored(server, "damaged") == POINTS
    folder = server.data_dir / "metrics"
    path = min((folder / "partitions").iterdir())
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)

    assert stored(server, "damaged") == 0
    assert stored(server, "whole") == POINTS
    assert (folder / "quarantine" / path.name).read_bytes() == raw
    with server.client() as client:
        assert "heliometer_damaged_partitions 1.0" in client.get("/metrics").text
        health = eventually(lambda: client.get("/v2/health").json().get("degraded"))
    assert "partitions" in health["damage"]
    doctor = server.command("doctor")
    assert doctor.returncode == 1
    assert str(folder / "quarantine" / path.name) in doctor.stdout


def test_a_log_that_lost_what_was_acknowledged_is_named(fresh_server: RunningServer) -> None:
    server = fresh_server.start()
    now = int(time.time())
    post(server, "first", now - 200)
    post(server, "second", now - 100)
    server.stop(signal.SIGKILL)
    log = server.data_dir / "metrics" / "recent.duckdb.wal"
    whole = log.read_bytes()
    log.unlink()
    said = refused(server)
    assert f"{log} is gone" in said
    log.write_bytes(whole[:-10])
    said = refused(server)
    assert f"{log} was cut" in said

    assert server.command("repair", "--apply").returncode == 0
    server.start()
    assert (stored(server, "first"), stored(server, "second")) == (POINTS, 0)
