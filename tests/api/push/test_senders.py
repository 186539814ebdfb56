"""Programs that know nothing of this service push to it, and v1.1 answers with what they sent."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import statsd
from benchmarks.remote_write_body import field, label, packed, sample, time_series
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from api.people import People
from conftest import RunningServer, embedded_only
from eventually import eventually

PROTOBUF = {"Content-Type": "application/x-protobuf"}
REMOTE_WRITE = {**PROTOBUF, "Content-Encoding": "snappy"}


def statistics(client: httpx.Client, namespace: str, name: str, **dimensions: str) -> Any:
    """Sum and count of each series of a metric in the last hours, through v1.1."""
    pairs = {"metric_name": name, **dimensions}
    reply = client.get(
        "/v1.1/metrics",
        params={
            "namespace": namespace,
            "dimensions": ",".join(f"{k}:{v}" for k, v in pairs.items()),
            "statistics": "sum,count",
            "period": 86_400 * 30,
            "start_time": (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%dT%H:%MZ"),
        },
    )
    assert reply.status_code == 200, reply.text
    return [
        (r["dimensions"], sum(r["datapoints"]["sum"]), sum(r["datapoints"]["count"]))
        for r in reply.json()
    ]


@pytest.fixture
def member(people: People) -> Iterator[httpx.Client]:
    with people.client() as client:
        yield client


def now_ms() -> int:
    return int(time.time() * 1000)


# -- Prometheus -------------------------------------------------------------------------------


def test_remote_write(member: httpx.Client) -> None:
    labels = {"__name__": "http_requests_total", "job": "api", "le": "0.5"}
    start = now_ms() - 60_000
    for number in range(3):  # the first one makes the series, the others know it
        body = packed(time_series(labels, [(start + number, 1.5)]))
        reply = member.post("/api/v1/write", content=body, headers=REMOTE_WRITE)
        assert (reply.status_code, reply.content) == (204, b"")
    expected = {"metric_name": "http_requests_total", "job": "api", "le": "0.5"}
    assert statistics(member, "prometheus", "http_requests_total") == [(expected, 4.5, 3)]


def test_a_repeated_remote_write_is_stored_once(member: httpx.Client) -> None:
    body = packed(time_series({"__name__": "repeated"}, [(now_ms(), 2.0)]))
    for _ in range(2):
        reply = member.post("/api/v1/write?namespace=retry", content=body, headers=REMOTE_WRITE)
        assert reply.status_code == 204
    assert [s[1:] for s in statistics(member, "retry", "repeated")] == [(2.0, 1)]


def test_what_cannot_be_stored_is_told_and_the_rest_is_stored(member: httpx.Client) -> None:
    good = time_series({"__name__": "partly"}, [(now_ms(), 1.0)])
    old = time_series({"__name__": "partly", "job": "old"}, [(now_ms() - 15 * 86_400_000, 1.0)])
    reply = member.post("/api/v1/write", content=packed(good, old), headers=REMOTE_WRITE)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text.startswith(
        "1 sample is left out, the others are stored; the first: partly{job=old}: timestamp: "
    )
    assert len(statistics(member, "prometheus", "partly")) == 1


@pytest.mark.parametrize(
    ("headers", "body", "status", "text"),
    [
        (REMOTE_WRITE, b"nonsense", 400, "snappy"),
        (REMOTE_WRITE, packed(b"\xff\xff"), 400, "protobuf"),
        (REMOTE_WRITE, packed(bytes(2 << 20)), 413, "larger than"),
        ({**PROTOBUF, "Content-Encoding": "zstd"}, b"x", 415, "snappy"),
        ({"Content-Type": "application/json"}, b"{}", 415, "application/x-protobuf"),
        (
            {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"},
            b"x",
            415,
            "remote write 1.0",
        ),
    ],
)
def test_prometheus_is_told_in_one_line_of_text(
    member: httpx.Client, headers: dict[str, str], body: bytes, status: int, text: str
) -> None:
    reply = member.post("/api/v1/write", content=body, headers=headers)
    assert reply.status_code == status
    assert text in reply.text
    assert reply.text.count("\n") == 1


def test_reserved_namespaces_are_the_agents(people: People, member: httpx.Client) -> None:
    body = packed(time_series({"__name__": "m", "instance_id": "i"}, [(now_ms(), 1.0)]))
    path = "/api/v1/write?namespace=hpcs.compute"
    assert member.post(path, content=body, headers=REMOTE_WRITE).status_code == 409
    with people.client("agent") as agent:
        tenant = {**REMOTE_WRITE, "X-Tenant-Id": people.projects["stock"]}
        assert agent.post(path, content=body, headers=tenant).status_code == 204
    with people.client("stranger") as stranger:
        assert statistics(stranger, "hpcs.compute", "m")


def test_the_same_body_to_another_place_is_another_request(member: httpx.Client) -> None:
    body = packed(time_series({"__name__": "twice"}, [(now_ms(), 2.0)]))
    for namespace in ("place.a", "place.b"):
        path = f"/api/v1/write?namespace={namespace}"
        assert member.post(path, content=body, headers=REMOTE_WRITE).status_code == 204
        assert [s[1:] for s in statistics(member, namespace, "twice")] == [(2.0, 1)]


def test_labels_that_would_fall_together_stay_apart(member: httpx.Client) -> None:
    for labels in ({"metric_name": "x"}, {"metric_name": "y"}, {"a:b": "1"}, {"a_b": "1"}):
        body = packed(time_series({"__name__": "apart", **labels}, [(now_ms(), 1.0)]))
        assert member.post("/api/v1/write", content=body, headers=REMOTE_WRITE).status_code == 204
    reply = member.post("/write?db=apart", content="m,a:b=1,a_b=2 value=1")
    assert reply.status_code == 204
    assert len(statistics(member, "prometheus", "apart")) >= 3
    [(dimensions, _, _)] = statistics(member, "apart", "m")
    assert sorted(dimensions.values()) == ["1", "2", "m"]


def test_a_label_that_stands_twice_is_told(member: httpx.Client) -> None:
    twice = field(1, label("__name__", "m") + label("a", "1") + label("a", "2") + sample(1, 0))
    reply = member.post("/api/v1/write", content=packed(twice), headers=REMOTE_WRITE)
    assert (reply.status_code, "stands twice" in reply.text or "timestamp" in reply.text) == (
        400,
        True,
    )


def test_beyond_the_limit_of_series_those_that_are_there_go_on(tmp_path: Path) -> None:
    server = RunningServer(
        tmp_path / "var",
        {"HELIOMETER_COLLECTOR_ENABLED": "false", "HELIOMETER_LIMITS_SERIES_PER_PROJECT": "1"},
    ).start()
    with server.client() as client:
        assert client.post("/write?db=d", content="old value=1").status_code == 204
        reply = client.post("/write?db=d", content="old value=2\nnew value=1")
        assert reply.status_code == 400
        assert "1 sample is left out" in reply.text
        assert "may have 1" in reply.text
        assert [s[1:] for s in statistics(client, "d", "old")] == [(3.0, 2)]
    assert server.stop() == 0


def test_no_text_breaks_the_reply(member: httpx.Client) -> None:
    for body in ("m a\rX:1=xyz,b=1", "m \x01=xyz", "m é=ü"):
        reply = member.post("/write?db=odd", content=body.encode())
        assert reply.status_code == 400
        assert "no value" in reply.json()["error"] or "unable" in reply.json()["error"]


# -- who may ----------------------------------------------------------------------------------


def test_ways_to_sign_in(people: People) -> None:
    url = people.server.url
    token = people.token("member")
    body = gzip.compress(b"signed value=1")
    headers = {"Content-Encoding": "gzip"}
    ways: list[tuple[dict[str, str], dict[str, str], tuple[str, str] | None]] = [
        ({"X-Auth-Token": token}, {}, None),
        ({"Authorization": f"Bearer {token}"}, {}, None),
        ({"Authorization": f"Token {token}"}, {}, None),
        ({"Authorization": "Token member:secret"}, {}, None),
        ({}, {}, ("member", "secret")),
        ({}, {"project": "shop"}, ("member", "secret")),
        ({}, {"u": "member", "p": "secret"}, None),
    ]
    for more, query, basic in ways:
        reply = httpx.post(
            f"{url}/write", params={"db": "ways", **query}, content=body,
            headers={**headers, **more}, auth=basic,
        )  # fmt: skip
        assert reply.status_code == 204, (more, query, reply.text)
    with people.client() as client:
        assert [s[1:] for s in statistics(client, "ways", "signed")] == [(7.0, 7)]


@pytest.mark.parametrize(
    "authorization",
    ["Basic ###", "Basic bm9jb2xvbg==", "Digest x", "Bearer", "Bearer nonsense", "Token a:b"],
)
def test_who_cannot_sign_in(people: People, authorization: str) -> None:
    reply = httpx.post(
        f"{people.server.url}/write?db=d", content="m value=1",
        headers={"Authorization": authorization},
    )  # fmt: skip
    assert reply.status_code == 401
    assert reply.json()["code"] == "unauthorized"


def test_a_reader_may_not_push(people: People) -> None:
    reply = httpx.post(f"{people.server.url}/api/v1/write", content=b"", auth=("reader", "secret"))
    assert reply.status_code == 403
    assert "member" in reply.text


def test_elsewhere_authorization_is_nothing(people: People) -> None:
    """A page in a browser that remembers a password cannot make it act."""
    reply = httpx.get(f"{people.server.url}/v1.1/alarms", auth=("member", "secret"))
    assert reply.status_code == 401


# -- OpenTelemetry ----------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_opentelemetrys_sdk(people: People, member: httpx.Client, compression: Compression) -> None:
    namespace = f"sdk.{compression.value}"
    exporter = OTLPMetricExporter(
        endpoint=f"{people.server.url}/v1/metrics?namespace={namespace}",
        headers={"Authorization": f"Bearer {people.token('member')}"},
        compression=compression,
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    resource = Resource.create({"service.name": "shop", "host.name": "web1"})
    provider = MeterProvider([reader], resource)
    meter = provider.get_meter("tests")
    meter.create_counter("orders").add(3, {"region": "eu", "big": True})
    meter.create_gauge("temperature").set(-2.5)
    histogram = meter.create_histogram(
        "latency", explicit_bucket_boundaries_advisory=[0.1, 1.0, 10.0]
    )
    for seconds in (0.05, 0.5, 0.6, 100.0):
        histogram.record(seconds)
    assert provider.force_flush()
    provider.shutdown()

    [(dimensions, total, _)] = statistics(member, namespace, "orders")
    shared = {"service.name": "shop", "host.name": "web1"}
    instance = dimensions.pop("service.instance.id", None)
    scope = {"otel.scope.name": "tests"}
    assert dimensions == {"metric_name": "orders", "region": "eu", "big": "true", **scope, **shared}
    assert instance is None or instance
    assert total in (3.0, 6.0), "shutting down exports once more"
    [(_, value, count)] = statistics(member, namespace, "temperature")
    assert value / count == -2.5
    buckets = {
        d["le"]: value / count
        for d, value, count in statistics(member, namespace, "latency_bucket")
    }
    assert buckets == {"0.1": 1.0, "1": 3.0, "10": 3.0, "+Inf": 4.0}
    [(_, value, count)] = statistics(member, namespace, "latency_max")
    assert value / count == 100.0


def otlp_json(*points: dict[str, Any]) -> dict[str, Any]:
    metric = {"name": "json", "gauge": {"dataPoints": list(points)}}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}


def test_otlp_as_json(member: httpx.Client) -> None:
    point = {
        "timeUnixNano": str(now_ms() * 1_000_000),
        "asDouble": 1.5,
        "attributes": [{"key": "host", "value": {"stringValue": "a"}}],
        "exemplars": [{"traceId": "5b8efff798038103d269b633813fc60c", "asDouble": 1.0}],
        "something": "new",
    }
    reply = member.post("/v1/metrics", json=otlp_json(point))
    assert (reply.status_code, reply.json()) == (200, {})
    expected = {"metric_name": "json", "host": "a"}
    assert statistics(member, "otlp", "json") == [(expected, 1.5, 1)]


def test_otlp_says_what_was_left_out(member: httpx.Client) -> None:
    stamp = str(now_ms() * 1_000_000)
    body = otlp_json({"timeUnixNano": "1", "asDouble": 1}, {"timeUnixNano": stamp, "asInt": "7"})
    reply = member.post("/otlp/v1/metrics?namespace=partial", json=body)
    assert reply.status_code == 200
    partial = reply.json()["partialSuccess"]
    assert partial["rejectedDataPoints"] == "1"
    assert "json: timestamp" in partial["errorMessage"]
    assert [s[1:] for s in statistics(member, "partial", "json")] == [(7.0, 1)]


def test_malformed_otlp_is_told_in_its_own_form(member: httpx.Client) -> None:
    reply = member.post("/v1/metrics", content=b"{", headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (400, 3)
    reply = member.post("/v1/metrics", content=b"\xff", headers=PROTOBUF)
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/x-protobuf")
    assert reply.content[:2] == b"\x08\x03"
    status = ExportMetricsServiceResponse.FromString(b"")  # an empty one is what success looks like
    assert status.SerializeToString() == b""
    assert b"ExportMetricsServiceRequest" in reply.content
    reply = member.post("/v1/metrics", content=b"x", headers={"Content-Type": "text/plain"})
    assert reply.status_code == 415
    deep = json.dumps({"resourceMetrics": []})[:-2] + "[" * 5000
    reply = member.post("/v1/metrics", content=deep, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400


# -- InfluxDB ---------------------------------------------------------------------------------


def test_influxdbs_client(people: People, member: httpx.Client) -> None:
    with (
        InfluxDBClient(
            people.server.url, people.token("member"), org="any", enable_gzip=True
        ) as client,
        client.write_api(write_options=SYNCHRONOUS) as api,
    ):
        points = [
            Point("water").tag("place", "Kraków").field("level", 1.0 + n).field("ok", True)
            .time(datetime.now(UTC) - timedelta(minutes=n))
            for n in range(3)
        ]  # fmt: skip
        api.write("rivers", record=points)
        assert client.ping()
    expected = {"metric_name": "water_level", "place": "Kraków"}
    assert statistics(member, "rivers", "water_level") == [(expected, 6.0, 3)]


def test_version_1_of_influxdb(member: httpx.Client) -> None:
    assert member.get("/ping").headers["x-influxdb-version"].startswith("1.8")
    seconds = int(time.time())
    lines = f"cpu,host=a value=1 {seconds}\nbroken\ncpu,host=a value=2 {seconds}"
    reply = member.post("/write?db=telegraf&rp=auto&precision=s", content=lines)
    assert reply.status_code == 400
    assert reply.json()["error"] == (
        "partial write: 1 sample is left out, the others are stored; the first: unable to parse "
        "line 2 ('broken'): missing fields dropped=1"
    )
    assert [s[1:] for s in statistics(member, "telegraf", "cpu")] == [(3.0, 2)]
    for query, text in (("", "database is required"), ("db=d&precision=x", "precision")):
        reply = member.post(f"/write?{query}", content="m value=1")
        assert (reply.status_code, text in reply.json()["message"]) == (400, True)
    reply = member.post("/api/v2/write?bucket=b", content=b"\xff")
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid")


def test_lines_without_a_time_may_come_again(member: httpx.Client) -> None:
    for _ in range(2):
        assert member.post("/write?db=again", content="m value=1").status_code == 204
    assert [s[1:] for s in statistics(member, "again", "m")] == [(2.0, 2)]


# -- StatsD -----------------------------------------------------------------------------------


@embedded_only
def test_statsds_client(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = RunningServer(
        tmp_path / "var",
        {
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            "HELIOMETER_STATSD_LISTEN": f"127.0.0.1:{port}",
            "HELIOMETER_STATSD_INTERVAL": "3600",
        },
    ).start()
    client = statsd.StatsClient("127.0.0.1", port, prefix="shop")
    client.incr("orders", 2)
    client.incr("orders")
    client.gauge("queue", 5)
    client.gauge("queue", -2, delta=True)
    client.timing("latency", 12.5)
    client.timing("latency", 7.5)
    client.set("users", "ann")
    eventually(
        lambda: b"heliometer_statsd_samples_total 7.0" in httpx.get(f"{server.url}/metrics").content
    )
    # What was gathered is stored when the service ends, too.
    assert server.stop() == 0
    server.start()
    with server.client() as api:
        assert [s[1:] for s in statistics(api, "statsd", "shop.orders")] == [(3.0, 1)]
        assert [s[1:] for s in statistics(api, "statsd", "shop.queue")] == [(3.0, 1)]
        assert [s[1:] for s in statistics(api, "statsd", "shop.latency")] == [(20.0, 2)]
        assert [s[1:] for s in statistics(api, "statsd", "shop.users")] == [(1.0, 1)]
    assert server.stop() == 0


# -- whatever comes over the network -----------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/metrics", PROTOBUF),
        ("/v1/metrics", {"Content-Type": "application/json"}),
        ("/api/v1/write", REMOTE_WRITE),
        ("/write?db=fuzz", {}),
        ("/v1.1/metrics/reports", {"Content-Type": "application/json"}),
    ],
)
def test_no_body_is_an_error_of_the_server(
    member: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    random = Random(path)
    good = [
        json.dumps(otlp_json({"timeUnixNano": "1", "asDouble": 1})).encode(),
        packed(time_series({"__name__": "m"}, [(now_ms(), 1.0)])),
        b'm,a=b f="t",g=1i 1\n' * 3,
        b'{"reports": [{"metrics": [{"namespace": "n", "value": 1}]}]}',
    ]
    for _ in range(150):
        body = bytearray(random.choice(good))
        for _ in range(random.randrange(6)):
            at = random.randrange(len(body) + 1)
            body[at : at + random.randrange(3)] = random.randbytes(random.randrange(4))
        reply = member.post(path, content=bytes(body), headers=headers)
        assert reply.status_code < 500, (body, reply.text)


def test_the_description_says_how_to_sign_in(people: People) -> None:
    paths = httpx.get(f"{people.server.url}/openapi.json").json()["paths"]
    ways: list[dict[str, list[str]]] = [{"token": []}, {"basic": []}, {"bearer": []}]
    for path in ("/api/v1/write", "/v1/metrics", "/api/v2/write"):
        assert paths[path]["post"]["security"] == ways
    assert paths["/v1.1/metrics"]["post"]["security"] == ways[:1]
