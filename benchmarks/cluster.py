"""Several processes on real engines: API → RabbitMQ → ClickHouse, evaluators and feed on.

Needs what ``scripts/engines`` starts. Everything shares this machine: load, processes, engines.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil  # type: ignore[import-untyped]

from benchmarks.bodies import METRICS_A_HOST, NAMESPACE, Rounds, dimensions, heliometer_body
from benchmarks.figures import Figure, Options, latencies
from benchmarks.load import drive

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from cluster import Cluster, running_cluster
from engine_servers import engines

SERIES = 10_000
BATCH = 1000
CONNECTIONS = 8
"""To each API process."""
ALARMS = 100
ENGINES = {"postgres": "PostgreSQL", "clickhouse": "ClickHouse", "beam": "RabbitMQ"}
QUERIES = 100


def run(options: Options) -> list[Figure]:
    """Points a second with one and two API processes, and what each costs."""
    engines()
    seconds = 5.0 if options.quick else 20.0
    figures: list[Figure] = []
    for number in (1, 2):
        roles = ("api",) * number + ("evaluator", "feed,notifier")
        folder = options.folder / str(number)
        folder.mkdir()
        with running_cluster(folder, roles, HELIOMETER_LOG_ACCESS="off") as cluster:
            figures += _measure(cluster, number, seconds)
    return figures


def _measure(cluster: Cluster, number: int, seconds: float) -> list[Figure]:
    headers = {"X-Auth-Token": cluster.token()}
    hosts = [(urlsplit(url).hostname or "", urlsplit(url).port or 0) for url in cluster.api]
    with cluster.client() as client:
        for i in range(ALARMS):
            body = {
                "alarm": {
                    "name": f"a{i}",
                    "expression": f"max({NAMESPACE}{{host={_host(i)}}}) > 1e9",
                }
            }
            client.post("/v1.1/alarms", json=body).raise_for_status()
        start_s = int(time.time()) - 6 * 3600
        drive(hosts[0], 1, _rounds(headers, start_s, 1))
        before, used = _cpu(cluster), time.perf_counter()
        outcome = drive(
            hosts[0],
            CONNECTIONS * number,
            _rounds(headers, start_s + 1),
            seconds,
            hosts[1:],
        )
        outcome.require(204)
        points = outcome.requests * BATCH
        began = time.perf_counter()
        _wait_until_stored(client, points + SERIES)
        behind = time.perf_counter() - began
        used = time.perf_counter() - used
        after = _cpu(cluster)
        queries = _queries(client, start_s)
    what = f"{number} API process{'es' if number > 1 else ''}"
    costs = {name: after[name] - before.get(name, 0.0) for name in after}
    each = ", ".join(f"{n} {s / points * 1e6:.2f}" for n, s in sorted(costs.items()))
    return [
        Figure(
            f"through the engines, {what}",
            points / outcome.seconds,
            "points/s",
            at_least=60_000,
            note=f"{points:,} points, all stored {behind:.1f} s after the last; {used:.0f} s; "
            f"processor, µs/point: {each}, load {outcome.cpu_seconds / points * 1e6:.2f}",
        ),
        *latencies(f"acknowledged after, {what}", outcome.latencies),
        *(f for name, took in queries.items() for f in latencies(f"{name}, {what}", took)),
    ]


def _rounds(headers: dict[str, str], start_s: int, rounds: int | None = None) -> Rounds:
    return Rounds(
        heliometer_body,
        headers,
        series=SERIES,
        batch=BATCH,
        start_s=start_s,
        step_s=1,
        rounds=rounds,
        connections=2 * CONNECTIONS,
    )


def _cpu(cluster: Cluster) -> dict[str, float]:
    """Seconds of processor time of each kind of process so far."""
    used: dict[str, float] = {}
    own = {m.process.pid: m.roles for m in cluster.members if m.process is not None}
    for process in psutil.process_iter(["pid", "name", "cpu_times"]):
        name = process.info["name"] or ""
        kind = own.get(process.info["pid"]) or next(
            (what for start, what in ENGINES.items() if name.startswith(start)), None
        )
        if kind is not None and process.info["cpu_times"] is not None:
            times = process.info["cpu_times"]
            used[kind] = used.get(kind, 0.0) + times.user + times.system
    return used


def _wait_until_stored(client: httpx.Client, points: int) -> None:
    """Return when everything is there; fail when more or, for a minute, less is."""
    deadline = time.monotonic() + 60
    while True:
        found = 0
        start = datetime.fromtimestamp(time.time() - 8 * 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for host in range(SERIES // METRICS_A_HOST):
            reply = client.get(
                "/v1.1/metrics",
                params={"namespace": NAMESPACE, "dimensions": f"host:{_host(host)}",
                        "statistics": "count", "period": 86400, "start_time": start},
            )  # fmt: skip
            reply.raise_for_status()
            found += sum(sum(each["datapoints"]["count"]) for each in reply.json())
        if found == points:
            return
        if found > points or time.monotonic() > deadline:
            raise AssertionError(f"{points} measurements were acknowledged, {found} are there")


def _queries(client: httpx.Client, start_s: int) -> dict[str, list[float]]:
    """How long single answers take, in seconds."""
    start = datetime.fromtimestamp(start_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = {"namespace": NAMESPACE, "statistics": "avg,max", "period": "300", "start_time": start}
    took: dict[str, list[float]] = {"query of one series": [], "query of 100 series": []}
    for i in range(QUERIES):
        host = _host(i % (SERIES // METRICS_A_HOST))
        for name, wanted in (
            ("query of one series", f"host:{host},metric_name:metric-000"),
            ("query of 100 series", f"host:{host}"),
        ):
            began = time.perf_counter()
            client.get("/v1.1/metrics", params={**asked, "dimensions": wanted}).raise_for_status()
            took[name].append(time.perf_counter() - began)
    return took


def _host(number: int) -> str:
    return dimensions(number * METRICS_A_HOST)["host"]
