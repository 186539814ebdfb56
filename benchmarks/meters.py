"""Telemetry v2: listing meters out of a million series, statistics, and putting samples."""

import json
import sqlite3
import time
from collections.abc import Callable
from urllib.parse import quote

from benchmarks.figures import Figure, Options, latencies
from benchmarks.load import drive
from benchmarks.server import Client, Server, request

METERS_A_RESOURCE = 100
BATCH = 1000
ROUNDS = 200


def run(options: Options) -> list[Figure]:
    """All through HTTP, on one connection."""
    series = 100_000 if options.quick else 1_000_000
    settings = {"HELIOMETER_LIMITS_SERIES_PER_PROJECT": "2000000"}
    data = options.folder / "data"
    with Server(data, settings) as server:
        token, project = server.sign_in()
        headers = {"X-Auth-Token": token}
        _fill(server, headers, series)
        figures = _lists(server, headers, project, series)
        figures += _statistics(server, headers)
        _make_meter(server, headers)
    # A custom meter takes samples after a minute: here it is made older instead.
    with sqlite3.connect(data / "resources.sqlite") as database:
        database.execute("UPDATE custom_meters SET created_at = created_at - 61000")
    database.close()
    settings["HELIOMETER_LIMITS_SAMPLES_PER_METER_AND_DAY"] = "1000000"
    with Server(data, settings) as server:
        token, _ = server.sign_in()
        figures += _puts(server, {"X-Auth-Token": token})
    return figures


def _name(number: int) -> tuple[str, str]:
    resource, meter = divmod(number, METERS_A_RESOURCE)
    return f"r-{resource:05d}", f"meter-{meter:03d}"


def _fill(server: Server, headers: dict[str, str], series: int) -> None:
    now = int(time.time())

    def body(first: int) -> bytes:
        metrics = []
        for number in range(first, first + BATCH):
            resource, meter = _name(number)
            dimensions = {"metric_name": meter, "resource_id": resource, "resource_name": resource}
            metrics.append(
                {"namespace": "bench", "dimensions": dimensions, "timestamp": now, "value": 1.5}
            )
        document = json.dumps(metrics).encode()
        return request("POST", "/v1.1/metrics/aggregate", document, headers)

    firsts = iter(range(0, series, BATCH))
    drive(server.address, 2, lambda _: next(map(body, firsts), None)).require(204)


def _lists(server: Server, headers: dict[str, str], project: str, series: int) -> list[Figure]:
    resource, meter = _name(series // 2)
    with Client(server.address) as client:
        began = time.perf_counter()
        first = client.send(request("GET", "/v2/meters", headers=headers))
        warm = time.perf_counter() - began
        rows = first.json()
        assert len(rows) == 100, first.body[:300]
        fields = {
            "nothing": "",
            "meter_id": rows[50]["meter_id"],
            "name": meter,
            "resource_id": resource,
            "resource_name": resource,
            "namespace": "bench",
            "type": "gauge",
            "project_id": project,
        }
        figures = [
            Figure(
                f"first list of {series:,} meters in a process", warm * 1000, "ms",
                note="makes the index",
            )
        ]  # fmt: skip
        for field, value in fields.items():
            query = f"?q.field={field}&q.op=eq&q.value={quote(value)}" if value else "?page=777"
            p50, p99 = _times(client, lambda q=query: request(  # type: ignore[misc]
                "GET", f"/v2/meters{q}", headers=headers))  # fmt: skip
            figures.append(
                Figure(f"100 meters by {field}", p50, "ms", at_most=20, note=f"p99 {p99:.1f} ms")
            )
    return figures


def _statistics(server: Server, headers: dict[str, str]) -> list[Figure]:
    resource, meter = _name(0)
    old = f"/v1.1/metrics?namespace=bench&dimensions=metric_name:{meter},resource_id:{resource}"
    old += "&statistics=avg,sum,min,max,count&period=300&start_time=2026-01-01T00:00Z"
    new = f"/v2/meters/{meter}/statistics?period=300&q.field=resource_id&q.value={resource}"
    with Client(server.address) as client:
        ours, _ = _times(client, lambda: request("GET", new, headers=headers))
        theirs, _ = _times(client, lambda: request("GET", old, headers=headers))
    return [
        Figure("statistics of one meter, p50", ours, "ms", note=f"v1.1's query: {theirs:.1f} ms")
    ]


def _make_meter(server: Server, headers: dict[str, str]) -> None:
    body = json.dumps([{"counter_name": "load", "resource_id": "nova_1"}]).encode()
    with Client(server.address) as client:
        answer = client.send(request("POST", "/v2/meters/load", body, headers))
    assert answer.status == 200, answer.body


def _puts(server: Server, headers: dict[str, str]) -> list[Figure]:
    item = {"counter_name": "load", "resource_id": "nova_1", "counter_volume": "1.25"}
    message = request("POST", "/v2/meters/load", json.dumps([item] * 100).encode(), headers)
    seconds = []
    with Client(server.address) as client:
        client.send(message)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer = client.send(message)
            seconds.append(time.perf_counter() - began)
            assert answer.status == 200, answer.body
    return latencies("100 samples put, durable", seconds, p50_at_most=10)


def _times(client: Client, message: Callable[[], bytes]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answer = client.send(message())
        seconds.append(time.perf_counter() - began)
        assert answer.status == 200, answer.body[:300]
    seconds.sort()
    return seconds[len(seconds) // 2] * 1000, seconds[int(len(seconds) * 0.99)] * 1000
