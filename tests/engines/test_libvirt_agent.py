"""The libvirt collector on a real libvirt: its test driver, and a real guest under load.

The guest is a Debian kernel with a few programs, emulated by qemu (``qemu_guest.py``); to repeat it
by hand: ``make test-engines``, or ``pytest -m engines tests/engines/test_libvirt_agent.py``.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import RunningServer
from eventually import eventually
from heliometer.collectors.libvirt.doctor import hypervisor
from heliometer.config import CollectorSettings, Settings
from heliometer.core.server_status import ServerStatus
from heliometer.meters.model import KNOWN
from qemu_guest import Hypervisor, missing

pytestmark = pytest.mark.engines
libvirt = pytest.importorskip("libvirt", reason="needs libvirt-python")

SECRET = "agents-secret"
TEST_UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


@contextmanager
def running_agent(server: RunningServer, folder: Path, *arguments: str) -> Iterator[Path]:
    """``heliometer collect --collector libvirt``, every second; its log."""
    log = folder / "agent.log"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "heliometer", "collect", "--collector", "libvirt",
             "--interval", "1", "--spread", "0", "--spool", str(folder / "spool"), *arguments],
            stderr=output,
            env={**inherited, "HELIOMETER_URL": server.url, "OS_USERNAME": "agent",
                 "OS_PASSWORD": SECRET, "OS_PROJECT_NAME": "infra"},
        )  # fmt: skip
    try:
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path / "var", {"HELIOMETER_COLLECTOR_ENABLED": "false"}).start()
    assert running.command("project", "create", "infra").returncode == 0
    made = running.command("user", "create", "agent", "--project", "infra", "--role", "agent",
                           "--password-stdin", text=SECRET)  # fmt: skip
    assert made.returncode == 0, made.stderr
    yield running
    assert running.stop() == 0


def figures(server: RunningServer, namespace: str, name: str, instance: str) -> dict[str, Any]:
    """All statistics of a metric of a domain, in one period; empty: there is nothing."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7200))
    with server.client() as client:
        reply = client.get(
            "/v1.1/metrics",
            params={"namespace": namespace, "statistics": "sum,min,max,count", "period": 86_400,
                    "dimensions": f"metric_name:{name},instance_id:{instance}",
                    "start_time": start},
        )  # fmt: skip
    assert reply.status_code == 200, reply.text
    found = {"sum": 0.0, "count": 0}
    for each in reply.json():
        points = each["datapoints"]
        found |= {
            "sum": found["sum"] + sum(points["sum"]),
            "count": found["count"] + sum(points["count"]),
            "min": min([*points["min"], found.get("min", float("inf"))]),
            "max": max([*points["max"], found.get("max", float("-inf"))]),
            "dimensions": each["dimensions"],
        }
    return found if found["count"] else {}


def test_libvirts_own_test_driver(server: RunningServer, tmp_path: Path) -> None:
    owners = tmp_path / "owners.toml"
    owners.write_text('[projects]\n"test" = "demo"\n')
    arguments = ("--libvirt-uri", "test:///default", "--owners", str(owners))
    with running_agent(server, tmp_path, *arguments) as log:
        eventually(lambda: figures(server, "hpcs.compute", "net_out_errors", TEST_UUID))
        assert "WARNING" not in log.read_text()
    # It counts everything but the time that reading and writing took.
    for namespace, name in KNOWN:
        found = figures(server, namespace, name, TEST_UUID)
        assert bool(found) == (not name.endswith(("_read_time", "_write_time", "_idle_time"))), name
        if name.startswith(("disk", "volume")):
            where = "device" if name.startswith("disk") else "disk"
            assert not found or found["dimensions"][where] == "vda"


def test_the_server_reads_a_hypervisor_by_itself(tmp_path: Path) -> None:
    owners = tmp_path / "owners.toml"
    owners.write_text('[projects]\n"test" = "demo"\n')
    server = RunningServer(
        tmp_path / "var",
        {
            "HELIOMETER_COLLECTOR_LIBVIRT_URI": "test:///default",
            "HELIOMETER_COLLECTOR_OWNERS": str(owners),
            "HELIOMETER_COLLECTOR_INTERVAL": "1",
        },
    ).start()
    eventually(lambda: figures(server, "hpcs.volume", "volume_write_bytes", TEST_UUID))
    text = httpx.get(f"{server.url}/metrics").text
    assert "heliometer_libvirt_domains 1.0" in text
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("uri", "owned", "level", "text"),
    [
        ("test:///default", "test", "ok", "1 running domain"),
        ("test:///default", "other", "warn", "1 without an owner"),
        ("qemu+unix:///system?socket=/nowhere", "test", "FAIL", "cannot be read"),
    ],
)
def test_the_doctor_looks_at_the_hypervisor(
    tmp_path: Path, uri: str, owned: str, level: str, text: str
) -> None:
    owners = tmp_path / "owners.toml"
    owners.write_text(f'[projects]\n"{owned}" = "demo"\n')
    collector = CollectorSettings(libvirt_uri=uri, owners=str(owners))
    [finding] = hypervisor(Settings(collector=collector), ServerStatus("", has_data_dir=False))
    assert (finding.level, text in finding.message) == (level, True)


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_real_guests_numbers_move_with_its_load(server: RunningServer, tmp_path: Path) -> None:
    project = next(
        line.split()[0]
        for line in server.command("project", "list").stdout.splitlines()
        if "demo" in line.split()
    )

    def total(name: str, namespace: str = "hpcs.compute") -> float:
        return float(figures(server, namespace, name, guest.uuid).get("sum", 0.0))

    with Hypervisor(tmp_path / "hypervisor") as hypervisor:
        guest = hypervisor.boot("web1", project=project)
        with running_agent(server, tmp_path, "--libvirt-uri", hypervisor.uri) as log:
            eventually(lambda: total("cpu_time"))
            load = threading.Thread(target=guest.burn, args=(5,))
            load.start()
            eventually(
                lambda: (
                    figures(server, "hpcs.compute", "cpu_total_utilization", guest.uuid)["max"] > 50
                )
            )
            load.join()
            guest.write_disk(32)
            eventually(lambda: total("disk_write_bytes") >= 32 << 20)
            assert total("volume_write_bytes", "hpcs.volume") == total("disk_write_bytes")
            assert total("volume_write_time", "hpcs.volume") > 0
            written = figures(server, "hpcs.compute", "disk_write_bytes", guest.uuid)
            assert written["dimensions"]["device"] == "vda"
            if hypervisor.has_network:
                guest.ping(20)
                eventually(lambda: total("net_in_packets") >= 20)
                assert total("net_in_packets") == total("net_out_packets") == 20
                seen = figures(server, "hpcs.compute", "net_in_packets", guest.uuid)
                assert seen["dimensions"]["device"] == "eth0"

            # A reboot takes its counters back to the beginning; no difference shows it.
            before = figures(server, "hpcs.compute", "disk_write_bytes_count", guest.uuid)
            guest.reboot()
            eventually(
                lambda: (
                    figures(server, "hpcs.compute", "disk_write_bytes_count", guest.uuid)["min"]
                    < before["max"]
                )
            )
            for namespace, name in KNOWN:
                found = figures(server, namespace, name, guest.uuid)
                assert not found or found["min"] >= 0, name
            assert figures(server, "hpcs.compute", "cpu_time", guest.uuid)["max"] < 60e9

            # The hypervisor's daemon goes away and comes back; the agent outlives it.
            hypervisor.stop()
            eventually(lambda: "collecting failed: The hypervisor" in log.read_text())
            hypervisor.start()
            eventually(lambda: "collecting works again" in log.read_text())
            count = figures(server, "hpcs.compute", "cpu_time", guest.uuid)["count"]
            eventually(
                lambda: figures(server, "hpcs.compute", "cpu_time", guest.uuid)["count"] > count
            )
            guest.destroy()
            time.sleep(3)
            assert log.read_text().count("WARNING") == 1, log.read_text()
