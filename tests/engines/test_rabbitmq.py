"""The feed through Debian's RabbitMQ: the whole service, and clients with what it told them."""

import itertools
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import kombu
import pika
import pika.exceptions
import pytest
from benchmarks.rabbitmq import PROGRAM, RabbitMQ

from eventually import eventually
from heliometer.config import AmqpSettings, Settings
from heliometer.core.finding import FAIL, OK, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.feed.rabbitmq_doctor import feed as feed_check
from hp_streams import Shop

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not Path(PROGRAM).exists(), reason="rabbitmq-server is not installed"),
]


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    running = RabbitMQ(tmp_path_factory.mktemp("rabbitmq")).start()
    yield running
    running.stop()


@pytest.fixture
def shop(tmp_path: Path, rabbitmq: RabbitMQ) -> Iterator[Shop]:
    running = Shop(
        tmp_path,
        {
            "HELIOMETER_AMQP_BACKEND": "rabbitmq",
            "HELIOMETER_AMQP_URL": rabbitmq.url,
            "HELIOMETER_AMQP_MANAGEMENT_URL": rabbitmq.management_url,
            "HELIOMETER_COLLECTOR_ENABLED": "true",
            "HELIOMETER_COLLECTOR_INTERVAL": "1",
        },
    ).start()
    yield running
    assert running.stop() == 0


def instance_of(shop: Shop) -> str:
    """The machine that the server reports."""
    found = eventually(lambda: shop.client.get("/v1.1/metrics/series").json()["series"])
    instance: str = found[0]["dimensions"]["instance_id"]
    return instance


def url_of(shop: Shop) -> str:
    """The endpoint's URI with user and password, as clients of one argument want it."""
    meta = shop.endpoint["meta"]
    secret = f"{meta['amqp_username']}:{meta['amqp_password']}@"
    return str(shop.endpoint["uri"]).replace("//", f"//{secret}", 1)


# -- the same clients, the same metrics, from both --------------------------------------------


@pytest.fixture(params=["builtin", "rabbitmq"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    if request.param == "rabbitmq":
        yield request.getfixturevalue("shop")
        return
    running = Shop(
        tmp_path,
        {"HELIOMETER_COLLECTOR_ENABLED": "true", "HELIOMETER_COLLECTOR_INTERVAL": "1"},
    ).start()
    yield running
    assert running.stop() == 0


def is_host_metric(body: str | bytes | dict[str, Any], instance: str) -> bool:
    metric = body if isinstance(body, dict) else json.loads(body)
    return bool(
        metric["namespace"] == "hpcs.compute"
        and metric["dimensions"]["instance_id"] == instance
        and isinstance(metric["timestamp"], int)
        and isinstance(metric["value"], float)
    )


def test_pika(either: Shop) -> None:
    instance = instance_of(either)
    either.open(("hpcs.compute", {"instance_id": instance}))
    assert all(is_host_metric(m, instance) for m in either.take(30))


async def test_aio_pika(either: Shop) -> None:
    instance = instance_of(either)
    either.open(("hpcs.compute", {"instance_id": instance}))
    async with await aio_pika.connect_robust(url_of(either)) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(either.endpoint["meta"]["amqp_queue"])
        seen = 0
        async with queue.iterator(timeout=20) as messages:
            async for message in messages:
                async with message.process():
                    assert is_host_metric(message.body, instance)
                seen += 1
                if seen == 30:
                    break


def test_kombu(either: Shop) -> None:
    instance = instance_of(either)
    either.open(("hpcs.compute", {"instance_id": instance}))
    seen: list[dict[str, Any]] = []
    with kombu.Connection(url_of(either)) as connection:
        queue = kombu.Queue(either.endpoint["meta"]["amqp_queue"], no_declare=True)

        def take(body: dict[str, Any], message: Any) -> None:
            seen.append(body)
            message.ack()

        with kombu.Consumer(connection, [queue], callbacks=[take], accept=["json"]):
            while len(seen) < 30:
                connection.drain_events(timeout=20)
    assert all(is_host_metric(m, instance) for m in seen)


@pytest.mark.skipif(not shutil.which("amqp-consume"), reason="amqp-tools are not installed")
def test_amqp_tools(either: Shop) -> None:
    instance = instance_of(either)
    either.open(("hpcs.compute", {"instance_id": instance}))
    queue = either.endpoint["meta"]["amqp_queue"]
    consumed = subprocess.run(
        ["amqp-consume", f"--url={url_of(either)}", "-q", queue, "-c", "5", "cat"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    metrics = consumed.stdout.replace("}{", "}\n{").splitlines()
    assert len(metrics) == 5
    assert all(is_host_metric(m, instance) for m in metrics)
    got = subprocess.run(
        ["amqp-get", f"--url={url_of(either)}", "-q", queue],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert is_host_metric(got.stdout, instance)


def test_v1_0_through_the_exchange(either: Shop) -> None:
    instance = instance_of(either)
    either.endpoint = either.client.post("/v1.0/endpoints").json()["endpoint"]
    fields = {
        "endpoint_id": either.endpoint["id"],
        "namespace": "compute",
        "dimensions": {"instance_id": instance},
    }
    reply = either.client.post("/v1.0/subscriptions", json={"subscription": fields})
    assert reply.status_code == 201
    with either.connect() as connection:
        channel = connection.channel()
        name = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(name, either.endpoint["meta"]["amqp_exchange"], routing_key="#")
        arriving = channel.consume(name, auto_ack=True, inactivity_timeout=20)
        for method, _, body in itertools.islice(arriving, 30):
            assert method is not None
            assert is_host_metric(body, instance)


def test_nothing_but_reading_is_allowed(either: Shop) -> None:
    either.open(("shop", {}))
    queue = either.endpoint["meta"]["amqp_queue"]

    def publish(channel: Any, exchange: str) -> None:
        channel.confirm_delivery()
        channel.basic_publish(exchange, queue, b"x")

    for do in (
        lambda c: c.queue_declare("mine"),
        lambda c: c.queue_delete(queue),
        lambda c: c.exchange_declare("mine"),
        lambda c: c.exchange_delete("metrics"),
        lambda c: c.queue_unbind(queue, "metrics", "#"),
        lambda c: publish(c, "metrics"),
    ):
        with either.connect() as connection:
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
                do(connection.channel())
            assert refused.value.reply_code == 403
    wrong = pika.URLParameters(either.endpoint["uri"].rpartition("/")[0] + "/%2F")
    meta = either.endpoint["meta"]
    wrong.credentials = pika.PlainCredentials(meta["amqp_username"], meta["amqp_password"])
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        pika.BlockingConnection(wrong)


def test_a_reset_ends_the_old_password_and_its_sessions(either: Shop) -> None:
    either.open(("shop", {}))
    session = either.connect()
    path = f"/v1.1/endpoints/{either.endpoint['id']}/reset-password"
    password = either.client.post(path, timeout=30).json()["password"]
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        session.process_data_events(10)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        either.connect()
    either.connect(password).close()


def test_deleting_the_endpoint_leaves_nothing(shop: Shop, rabbitmq: RabbitMQ) -> None:
    shop.open(("shop", {}))
    session = shop.connect()
    vhost, user = shop.endpoint["uri"].rpartition("/")[2], shop.endpoint["meta"]["amqp_username"]
    assert rabbitmq.api("GET", f"vhosts/{vhost}").status_code == 200
    assert shop.client.delete(f"/v1.1/endpoints/{shop.endpoint['id']}").status_code == 204
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        session.process_data_events(10)
    assert rabbitmq.api("GET", f"vhosts/{vhost}").status_code == 404
    assert rabbitmq.api("GET", f"users/{user}").status_code == 404


# -- while RabbitMQ is away -------------------------------------------------------------------


def test_nothing_is_lost_while_rabbitmq_is_down(tmp_path: Path) -> None:
    rabbitmq = RabbitMQ(tmp_path / "rabbitmq").start()
    shop = Shop(
        tmp_path,
        {
            "HELIOMETER_AMQP_BACKEND": "rabbitmq",
            "HELIOMETER_AMQP_URL": rabbitmq.url,
            "HELIOMETER_AMQP_MANAGEMENT_URL": rabbitmq.management_url,
        },
    ).start()
    shop.open(("shop", {}))
    shop.post("shop", {}, *range(500))
    rabbitmq.stop(signal.SIGKILL)
    for start in range(500, 2000, 100):
        shop.post("shop", {}, *range(start, start + 100))
    assert list(shop.client.get("/v2/health").json()["degraded"]) == ["feed"]
    other = shop.client.post(f"/v1.1/endpoints/{shop.endpoint['id']}/reset-password", timeout=30)
    assert other.status_code == 503
    assert shop.queue()["queued"] >= 1500

    # The service itself may end meanwhile, even hard.
    shop.stop(signal.SIGKILL)
    shop.start()
    shop.post("shop", {}, *range(2000, 2100))
    rabbitmq.start()
    eventually(lambda: not shop.queue()["queued"], why=shop.queue)
    # Being asked is enough for it to look again: nobody waits for the longest pause.
    eventually(
        lambda: shop.client.get("/v2/health").json() == {"status": "ok"},
        within_s=25,
        why=lambda: shop.client.get("/v2/health").text,
    )

    values: list[float] = []
    with shop.connect() as connection:
        channel = connection.channel()
        for method, _, body in channel.consume(
            shop.endpoint["meta"]["amqp_queue"], auto_ack=True, inactivity_timeout=3
        ):
            if method is None:
                break
            values.append(json.loads(body)["value"])
    assert set(values) == set(range(2100))
    first_time = list(dict.fromkeys(values))
    assert first_time == sorted(first_time), "in order, redeliveries aside"
    assert shop.stop() == 0
    rabbitmq.stop()


def test_without_rabbitmq_an_endpoint_is_not_made(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path,
        {
            "HELIOMETER_AMQP_BACKEND": "rabbitmq",
            "HELIOMETER_AMQP_URL": "amqp://operator:hush-hush@127.0.0.1:1",
            "HELIOMETER_AMQP_MANAGEMENT_URL": "http://127.0.0.1:1",
        },
    ).start()
    refused = shop.client.post("/v1.1/endpoints")
    assert refused.status_code == 503
    assert shop.client.get("/v1.1/endpoints").json() == {"endpoints": []}
    assert "feed" in httpx.get(f"{shop.server.url}/v2/health").json()["degraded"]
    assert "hush-hush" not in shop.server.log()
    assert shop.stop() == 0


def test_the_doctor_looks_at_rabbitmq(rabbitmq: RabbitMQ) -> None:
    def found(url: str) -> list[Finding]:
        amqp = AmqpSettings(backend="rabbitmq", url=url, management_url=rabbitmq.management_url)
        return list(
            feed_check(Settings(amqp=amqp), ServerStatus("http://127.0.0.1:1", has_data_dir=False))
        )

    assert {f.level for f in found(rabbitmq.url)} == {OK}
    wrong = found(rabbitmq.url.replace("operator-secret", "wrong"))
    assert [f.level for f in wrong] == [OK, FAIL, FAIL]
    assert "refuses the user" in wrong[1].message
    assert "administrator" in wrong[2].message
    assert "wrong@" not in "".join(f.line() for f in wrong)
