"""Endpoints and subscriptions where a table says more than single requests, and what then flows,
to real AMQP clients with nothing but what ``POST /endpoints`` answered."""

import re
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pika
import pika.exceptions
import pytest

from api.people import People
from certificates import make
from conftest import embedded_only
from eventually import eventually
from hp_streams import Shop


@pytest.fixture(scope="module")
def mall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    running = Shop(tmp_path_factory.mktemp("streams")).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def shop(mall: Shop) -> Iterator[Shop]:
    """A project of its own, on a server that others use too."""
    with mall.neighbour() as neighbour:
        yield neighbour


@pytest.fixture(scope="module")
def kiosk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Where there is little room."""
    limits = {
        "HELIOMETER_LIMITS_SUBSCRIPTIONS_PER_PROJECT": "2",
        "HELIOMETER_AMQP_QUEUE_MESSAGES": "1000",
    }
    running = Shop(tmp_path_factory.mktemp("kiosk"), limits).start()
    yield running
    assert running.stop() == 0


# -- what flows -------------------------------------------------------------------------------


def test_what_is_subscribed_to_flows_and_nothing_else(shop: Shop) -> None:
    shop.open(("shop", {"name": "a"}), ("bare", {}))
    shop.post("shop", {"name": "a"}, 1, 2)
    shop.post("shop", {"name": "a", "more": "x"}, 3)  # not exactly these dimensions
    shop.post("shop", {"name": "b"}, 4)
    shop.post("shop", {}, 5)
    shop.post("bare", {}, 6)
    shop.post("bare", {"name": "a"}, 7)
    assert [(m["namespace"], m["value"]) for m in shop.take(3)] == [
        ("shop", 1),
        ("shop", 2),
        ("bare", 6),
    ]
    assert shop.queue()["queued"] == 0


def test_messages_are_the_metrics_json_with_whole_seconds(shop: Shop) -> None:
    name = {"name": "köttbullar \"'"}
    shop.open(("shop", name))
    before = int(time.time())
    shop.post("shop", name, 1.5)
    (message,) = shop.take(1)
    assert message == {
        "namespace": "shop",
        "dimensions": name,
        "timestamp": message["timestamp"],
        "value": 1.5,
    }
    assert isinstance(message["timestamp"], int)
    assert before <= message["timestamp"] <= time.time()


def test_two_subscriptions_that_match_bring_one_message(shop: Shop) -> None:
    shop.open()
    fields = {"endpoint_id": shop.endpoint["id"], "namespace": "compute"}
    v1_0 = {"subscription": fields | {"dimensions": {"instance_id": "i"}}}
    assert shop.client.post("/v1.0/subscriptions", json=v1_0).status_code == 201
    first = shop.subscribe("hpcs.compute", {"instance_id": "i", "metric_name": "cpu"})
    made = shop.server.command(
        "user", "create", "collector", "--project", shop.project, "--role", "agent",
        "--password-stdin", text="correct horse 2\n",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    agent = shop.server.token("collector", shop.project, "correct horse 2")
    with shop.server.client(agent) as posting:
        for metric in ("cpu", "disk"):
            dimensions = {"instance_id": "i", "metric_name": metric}
            body = {"namespace": "hpcs.compute", "dimensions": dimensions, "value": 1}
            assert posting.post("/v1.1/metrics", json=body).status_code == 204
    assert [m["dimensions"]["metric_name"] for m in shop.take(2)] == ["cpu", "disk"]
    shop.client.delete(f"/v1.1/subscriptions/{first}")
    with shop.server.client(agent) as posting:
        body = {"namespace": "hpcs.compute", "dimensions": dimensions, "value": 2}
        assert posting.post("/v1.1/metrics", json=body).status_code == 204
    assert shop.take(1)[0]["value"] == 2, "the other subscription still matches"


def test_after_the_last_subscription_nothing_flows(shop: Shop) -> None:
    shop.open()
    subscription = shop.subscribe("shop", {})
    shop.post("shop", {}, 1)
    shop.client.delete(f"/v1.1/subscriptions/{subscription}")
    shop.post("shop", {}, 2)
    assert shop.queue()["published"] == 1


def test_a_refused_post_flows_nowhere(shop: Shop) -> None:
    shop.open(("shop", {}))
    wrong = [{"namespace": "shop", "value": 1}, {"namespace": "shop", "value": "two"}]
    assert shop.client.post("/v1.1/metrics/aggregate", json=wrong).status_code == 422
    assert shop.queue()["published"] == 0


def test_this_machines_own_metrics_flow(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        {"HELIOMETER_COLLECTOR_ENABLED": "true", "HELIOMETER_COLLECTOR_INTERVAL": "1"},
    ).start()
    found = eventually(lambda: shop.client.get("/v1.1/metrics/series").json()["series"])
    instance = found[0]["dimensions"]["instance_id"]
    shop.open(("hpcs.compute", {"instance_id": instance}))
    for message in shop.take(20):
        assert message["namespace"] == "hpcs.compute"
        assert message["dimensions"]["instance_id"] == instance
    assert shop.stop() == 0


# -- who comes in -----------------------------------------------------------------------------


def test_a_reset_ends_the_old_password_and_its_sessions(shop: Shop) -> None:
    shop.open(("shop", {}))
    session = shop.connect()
    path = f"/v1.1/endpoints/{shop.endpoint['id']}/reset-password"
    password = shop.client.post(path).json()["password"]
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="password was reset"):
        session.process_data_events(5)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        shop.connect()
    shop.connect(password).close()


def test_deleting_the_endpoint_cuts_connections_and_drops_the_queue(shop: Shop) -> None:
    shop.open(("shop", {}))
    shop.post("shop", {}, 1, 2, 3)
    session = shop.connect()
    uri = shop.endpoint["uri"]
    assert shop.client.delete(f"/v1.1/endpoints/{shop.endpoint['id']}").status_code == 204
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="endpoint was deleted"):
        session.process_data_events(5)
    parameters = pika.URLParameters(uri)
    meta = shop.endpoint["meta"]
    parameters.credentials = pika.PlainCredentials(meta["amqp_username"], meta["amqp_password"])
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(parameters)
    shop.post("shop", {}, 4)
    shop.open(("shop", {}))
    shop.post("shop", {}, 5)
    assert [m["value"] for m in shop.take(1)] == [5]


def test_of_many_who_create_an_endpoint_one_does(shop: Shop) -> None:
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: shop.client.post("/v1.1/endpoints").status_code, range(16)))
    assert sorted(codes) == [201] + [409] * 15


def test_the_password_is_kept_nowhere(shop: Shop) -> None:
    shop.open(("shop", {}))
    password = shop.endpoint["meta"]["amqp_password"]
    shop.connect().close()
    assert len(password) >= 16
    assert re.fullmatch(r"[A-Za-z0-9]+", password)
    for path in shop.server.data_dir.rglob("*"):
        if path.is_file():
            assert password.encode() not in path.read_bytes(), path
    assert password not in shop.server.log()


# -- what is wrong ----------------------------------------------------------------------------

WRONG = [
    ("", "The body is empty"),
    ("[]", "body: "),
    ("{}", "body: object missing required field subscription"),
    ('{"subscription": {"namespace": "a"}}', "subscription: .*endpoint_id"),
    ('{"subscription": {"endpoint_id": ID}}', "subscription: .*namespace"),
    ('{"subscription": {"endpoint_id": 1, "namespace": "a"}}', "subscription.endpoint_id"),
    ('{"subscription": {"endpoint_id": ID, "namespace": "a", "more": 1}}', "more"),
    ('{"subscription": {"endpoint_id": ID, "namespace": "a", "dimensions": []}}', "dimensions"),
    ('{"subscription": {"endpoint_id": ID, "namespace": "a", "dimensions": null}}', "dimensions"),
    (
        '{"subscription": {"endpoint_id": ID, "namespace": "a", "dimensions": {"k": 1}}}',
        "expected str",
    ),
    ('{"subscription": {"endpoint_id": ID, "namespace": "a", "dimensions": {"k": ""}}}', "k"),
    ('{"subscription": {"endpoint_id": ID, "namespace": "a", "dimensions": {"": "v"}}}', "key"),
    (
        '{"subscription": {"endpoint_id": ID, "namespace": "a", "dimensions": {"k":"1", "k":""}}}',
        "twice",
    ),
    ('{"subscription": {"endpoint_id": ID, "namespace": ""}}', "subscription.namespace"),
    ('{"subscription": {"endpoint_id": ID, "namespace": "a b"}}', "subscription.namespace"),
    ('{"subscription": {"endpoint_id": ID, "namespace": "' + 65 * "a" + '"}}', "64 characters"),
    (
        '{"subscription": {"endpoint_id": ID, "namespace": "a", "dimensions": {"k": "'
        + 301 * "v"
        + '"}}}',
        "300 characters",
    ),
    (
        '{"subscription": {"namespace": "a", "endpoint_id": "36351ef0-3ff3-11e2-a25f-080020"}}',
        "There is no endpoint",
    ),
    ('{"subscription": {"endpoint_id": ID, "namespace": "hpcs.compute"}}', "requires instance_id"),
    (
        '{"subscription": {"endpoint_id": ID, "namespace": "hpcs.volume",'
        ' "dimensions": {"instance_id": "i"}}}',
        "requires disk",
    ),
]


def test_what_is_wrong_is_told_and_nothing_is_stored(people: People) -> None:
    with people.client() as client:
        endpoint = client.post("/v1.1/endpoints").json()["endpoint"]["id"]
        for body, message in WRONG:
            reply = client.post(
                "/v1.1/subscriptions",
                content=body.replace("ID", f'"{endpoint}"', 1) if ": ID" in body else body,
                headers={"Content-Type": "application/json"},
            )
            assert reply.status_code == 400, (body, reply.text)
            assert re.search(message, reply.json()["bad_request"]["message"]), (body, reply.text)
        xml = client.post(
            "/v1.1/subscriptions", content="<a/>", headers={"Content-Type": "application/xml"}
        )
        assert xml.status_code == 415
        assert client.get("/v1.1/subscriptions").json() == {"subscriptions": []}
        client.delete(f"/v1.1/endpoints/{endpoint}")


def test_subscriptions_are_limited(kiosk: Shop) -> None:
    with kiosk.neighbour() as shop:
        shop.open(("a", {}), ("b", {}))
        fields = {"endpoint_id": shop.endpoint["id"], "namespace": "c"}
        reply = shop.client.post("/v1.1/subscriptions", json={"subscription": fields})
    assert reply.status_code == 429
    assert "2 subscriptions and may have 2" in reply.json()["rate_limited"]["message"]


# -- what is kept -----------------------------------------------------------------------------


@embedded_only
def test_what_was_acknowledged_to_the_poster_survives_kill_9(tmp_path: Path) -> None:
    shop = Shop(tmp_path).start()
    shop.open(("shop", {}))
    shop.post("shop", {}, *range(100))
    assert len(shop.take(30)) == 30
    unacknowledged = shop.take(10, ack=False)
    database = shop.server.data_dir / "feed.sqlite"

    def thirty_are_over() -> bool:
        with sqlite3.connect(database) as connection:
            row = connection.execute("SELECT first FROM queues WHERE first = 30").fetchone()
        return row is not None

    eventually(thirty_are_over)
    shop.stop(signal.SIGKILL)

    shop.start()
    shop.post("shop", {}, 100)
    values = [m["value"] for m in shop.take(71)]
    assert values == list(range(30, 101))
    assert values[:10] == [m["value"] for m in unacknowledged]
    eventually(lambda: not shop.queue()["queued"])
    assert shop.queue() == {
        "published": 101, "queued": 0, "delivered": 101, "dropped": 0, "consumers": 0,
    }  # fmt: skip
    assert shop.stop() == 0


@embedded_only
def test_kill_9_under_load_loses_no_message_of_an_acknowledged_post(tmp_path: Path) -> None:
    shop = Shop(tmp_path).start()
    shop.open(("shop", {}))
    acknowledged: list[int] = []

    def load() -> None:
        number = 0
        try:
            while True:
                shop.post("shop", {}, *range(number, number + 10))
                acknowledged.extend(range(number, number + 10))
                number += 10
        except (httpx.TransportError, AssertionError):
            pass

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load)
        eventually(lambda: len(acknowledged) > 300)
        assert shop.server.process is not None
        shop.server.process.kill()
        loading.result(20)
    shop.stop(signal.SIGKILL)
    assert len(acknowledged) > 300

    shop.start()
    published = shop.queue()["published"]
    values = [m["value"] for m in shop.take(published)]
    assert set(acknowledged) <= set(values)
    assert len(values) == len(set(values))
    assert values == sorted(values)
    assert shop.stop() == 0


def test_the_queue_is_bounded_and_its_drops_are_counted(kiosk: Shop) -> None:
    shop = kiosk
    shop.open(("shop", {}))
    for start in range(0, 2500, 500):
        shop.post("shop", {}, *range(start, start + 500))
    assert shop.queue() == {
        "published": 2500, "queued": 1000, "delivered": 0, "dropped": 1500, "consumers": 0,
    }  # fmt: skip
    assert [m["value"] for m in shop.take(1000)] == list(range(1500, 2500))
    if not shop.server.clustered:  # there, another process has the figures of the feed
        instruments = httpx.get(f"{shop.server.url}/metrics").text
        assert "heliometer_feed_dropped_total 1500.0" in instruments


# -- the listener -----------------------------------------------------------------------------


@embedded_only
def test_a_taken_port_turns_the_feed_off_and_nothing_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        shop = Shop(tmp_path, {"HELIOMETER_AMQP_LISTEN": address}).start()
        shop.open(("shop", {}))
        shop.post("shop", {}, 1)
        assert shop.queue()["queued"] == 1
        health = shop.client.get("/v2/health")
        assert health.status_code == 200
        assert address in health.json()["degraded"]["feed"]
        assert shop.client.head("/v2/health").status_code == 204
        lines = [line for line in shop.server.log().splitlines() if "feed is off" in line]
        assert len(lines) == 1
        assert "HELIOMETER_AMQP_LISTEN" in lines[0]
    eventually(lambda: "feed" not in shop.client.get("/v2/health").json().get("degraded", {}))
    host, _, port = address.partition(":")
    socket.create_connection((host, int(port)), 5).close()
    assert shop.stop() == 0


def test_the_feed_can_be_switched_off(tmp_path: Path) -> None:
    shop = Shop(tmp_path, {"HELIOMETER_AMQP_LISTEN": ""}).start()
    assert shop.client.get("/v2/health").status_code == 200
    assert "feed is off" not in shop.server.log()
    shop.stop()


@pytest.mark.reliability(23)
def test_tls(tmp_path: Path) -> None:
    certificate, key = make(tmp_path)
    shop = Shop(
        tmp_path,
        {"HELIOMETER_AMQP_TLS_CERT": certificate, "HELIOMETER_AMQP_TLS_KEY": key},
    ).start()
    shop.open(("shop", {}))
    shop.post("shop", {}, 1)
    assert shop.endpoint["uri"].startswith("amqps://127.0.0.1:")
    parameters = pika.URLParameters(
        f"{shop.endpoint['uri']}?ssl_options=%7B%27ca_certs%27%3A%27{certificate}%27%7D"
    )
    meta = shop.endpoint["meta"]
    parameters.credentials = pika.PlainCredentials(meta["amqp_username"], meta["amqp_password"])
    with pika.BlockingConnection(parameters) as connection:
        assert connection.channel().basic_get(meta["amqp_queue"])[0] is not None
    shop.stop()
