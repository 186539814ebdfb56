"""A real Prometheus scrapes, with collectd among what it scrapes, and writes to the service."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import PASSWORD, RunningServer
from eventually import eventually
from ports import free_port

PROMETHEUS = shutil.which("prometheus")
COLLECTD = shutil.which("collectd", path="/usr/sbin:/usr/bin")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not PROMETHEUS or not COLLECTD, reason="needs prometheus and collectd"),
]


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def prometheus(folder: Path, url: str, targets: dict[str, int], authorization: str) -> list[str]:
    """The command that scrapes these and writes there."""
    assert PROMETHEUS is not None
    jobs = "".join(
        f"  - job_name: {name}\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
        for name, port in targets.items()
    )
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}"
        f"remote_write:\n  - url: {url}\n{authorization}"
        "    queue_config: {batch_send_deadline: 1s, min_backoff: 100ms, max_backoff: 1s}\n"
    )
    return [
        PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{targets['prometheus']}",
    ]  # fmt: skip


def collectd(folder: Path, port: int) -> list[str]:
    """The command that reads this machine and shows it to Prometheus."""
    assert COLLECTD is not None
    config = folder / "collectd.conf"
    config.write_text(
        f'Hostname "web1"\nBaseDir "{folder}"\nPIDFile "{folder}/collectd.pid"\nInterval 1\n'
        "LoadPlugin load\nLoadPlugin memory\nLoadPlugin write_prometheus\n"
        f'<Plugin write_prometheus>\n  Host "127.0.0.1"\n  Port "{port}"\n</Plugin>\n'
    )
    return [COLLECTD, "-f", "-C", str(config)]


def statistics(client: httpx.Client, name: str, statistic: str, **dimensions: str) -> Any:
    """Of each series of a metric in the last hour: dimensions and datapoints of ten seconds."""
    pairs = ",".join(f"{k}:{v}" for k, v in {"metric_name": name, **dimensions}.items())
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    reply = client.get(
        "/v1.1/metrics",
        params={"namespace": "prometheus", "dimensions": pairs, "statistics": statistic,
                "period": 1, "start_time": start},
    )  # fmt: skip
    assert reply.status_code == 200, reply.text
    return [(r["dimensions"], r["datapoints"][statistic]) for r in reply.json()]


def test_what_a_real_prometheus_writes_is_queried(tmp_path: Path) -> None:
    port = free_port()
    server = RunningServer(tmp_path / "var", {"HELIOMETER_COLLECTOR_ENABLED": "false"})
    server.start(f"127.0.0.1:{port}")
    ports = {"prometheus": free_port(), "collectd": free_port()}
    basic = f"    basic_auth: {{username: demo, password: '{PASSWORD}'}}\n"
    command = prometheus(tmp_path, f"{server.url}/api/v1/write", ports, basic)
    with (
        server.client() as client,
        running(collectd(tmp_path, ports["collectd"]), tmp_path / "collectd.log"),
        running(command, tmp_path / "prometheus.log") as process,
    ):
        own = {"job": "prometheus", "instance": f"127.0.0.1:{ports['prometheus']}"}
        [(dimensions, _)] = eventually(lambda: statistics(client, "up", "count", **own))
        assert dimensions == {"metric_name": "up", **own}
        collected = eventually(
            lambda: (
                statistics(client, "collectd_load_shortterm", "max", instance="web1")
                or statistics(client, "collectd_load_shortterm", "max", exported_instance="web1")
            )
        )
        assert collected[0][0]["job"] == "collectd"
        memory = eventually(lambda: statistics(client, "collectd_memory", "min"))
        assert all(value >= 0 for _, values in memory for value in values)

        # The service goes away and comes back where it was: Prometheus sends what it kept.
        assert server.stop() == 0
        before = len(scraped(ports["prometheus"]))
        eventually(lambda: len(scraped(ports["prometheus"])) >= before + 3)
        server_again = restart(server, port)
        taken = eventually(lambda: (there := scraped(ports["prometheus"]))[before + 5 :] and there)
        eventually(lambda: stamps(server_again, own)[len(taken) - 1 :])
        found = sorted(stamps(server_again, own))
        assert found[: len(taken)] == taken, "each sample that Prometheus has, and none twice"
        server_again.close()
        assert process.poll() is None
        log = (tmp_path / "prometheus.log").read_text()
        assert "non-recoverable" not in log, log[-2000:]
    assert server.stop() == 0


def stamps(client: httpx.Client, dimensions: dict[str, str]) -> list[datetime]:
    """When the samples of ``up`` were taken, through Telemetry v2."""
    reply = client.get("/v2/meters/up", params={"limit": 1000})
    assert reply.status_code == 200, reply.text
    return [
        datetime.fromisoformat(sample["timestamp"]).replace(tzinfo=UTC)
        for sample in reply.json()
        if dimensions.items() <= sample["resource_metadata"].items()
    ]


def scraped(port: int) -> list[datetime]:
    """When Prometheus itself took its own ``up``, in order."""
    query = {"query": 'up{job="prometheus"}[1h]'}
    answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params=query).json()
    [series] = answer["data"]["result"]
    return [datetime.fromtimestamp(float(at), UTC) for at, _ in series["values"]]


def restart(server: RunningServer, port: int) -> httpx.Client:
    """Start it where it was before."""
    server.start(listen=f"127.0.0.1:{port}")
    return server.client(server.token())
