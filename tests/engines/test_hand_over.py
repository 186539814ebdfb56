"""The hand-over between processes at its worst moments: nothing is lost, nothing twice."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiormq
import httpx
import msgspec
import pytest

from cluster import Cluster, Member, running_cluster
from engine_servers import clickhouse, psql
from eventually import eventually
from heliometer.projects.model import shard_of

pytestmark = pytest.mark.engines

PARTS = 2
SOON_S = 30.0


@pytest.fixture(scope="module")
def stops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files say at which moments processes stand still."""
    return tmp_path_factory.mktemp("stops")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, stops: Path) -> Iterator[Cluster]:
    with running_cluster(
        tmp_path_factory.mktemp("cluster"),
        ("api", "api", "evaluator", "feed,notifier"),
        HELIOMETER_BUS_PARTITIONS=str(PARTS),
        HELIOMETER_BUS_QUEUE_BYTES=str(1 << 20),
        STAND_STILL=str(stops),
        PYTHONPATH=str(Path(__file__).parent / "freezing"),
    ) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    with cluster.client() as client:
        yield client


@pytest.fixture
def other(cluster: Cluster) -> Iterator[httpx.Client]:
    """A client of another API process."""
    with cluster.client(1) as client:
        yield client


@pytest.fixture
def owner(cluster: Cluster) -> Iterator[Member]:
    """The only evaluator, running before and after."""
    (found,) = cluster.with_role("evaluator")
    yield found
    assert found.process is not None
    if found.process.poll() is not None:
        found.start()
    cluster.wait_until_healthy()


def metric(namespace: str, value: float = 1.0, **dimensions: str) -> dict[str, Any]:
    dimensions = dimensions or {"host": "a"}
    return {"namespace": namespace, "dimensions": dimensions, "timestamp": time.time(),
            "value": value}  # fmt: skip


def post(client: httpx.Client, document: Any, key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1.1/metrics", json=document, headers=headers)


def stored(client: httpx.Client, namespace: str) -> int:
    """How many measurements a namespace has."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    query = {"namespace": namespace, "start_time": start, "statistics": "count", "period": "86400"}
    reply = client.get("/v1.1/metrics", params=query)
    assert reply.status_code == 200, reply.text
    return sum(sum(each["datapoints"]["count"]) for each in reply.json())


def state(client: httpx.Client, alarm: str) -> str:
    return str(client.get(f"/v1.1/alarms/{alarm}").json()["alarm"]["state"])


def make_alarm(client: httpx.Client, name: str, expression: str) -> str:
    reply = client.post("/v1.1/alarms", json={"alarm": {"name": name, "expression": expression}})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["alarm"]["id"])


def goes_off(client: httpx.Client, alarm: str, namespace: str) -> None:
    """Return when measurements have made an alarm go off, with one of them or the minute."""

    def posted() -> bool:
        assert post(client, metric(namespace, 10)).status_code == 204
        return state(client, alarm) == "ALARM"

    eventually(posted, SOON_S)


def test_a_key_means_the_same_in_every_process(
    cluster: Cluster, client: httpx.Client, other: httpx.Client
) -> None:
    first = metric("keys")
    assert post(client, first, "k").status_code == 204
    refused = post(other, metric("keys", host="new"), "k")
    assert refused.status_code == 422, refused.text
    assert post(other, first, "k").status_code == 204
    # The series of the refused request is none the less one that may be posted to.
    assert post(other, metric("keys", host="new")).status_code == 204
    for each in (client, other):
        eventually(lambda each=each: stored(each, "keys") == 2, SOON_S)  # type: ignore[misc]
    text = "SELECT count() FROM series WHERE namespace = 'keys'"
    assert clickhouse(text, cluster.settings["HELIOMETER_METRICS_URL"]) == "2"


def test_a_custom_meter_that_one_process_made_is_known_to_the_others(
    client: httpx.Client, other: httpx.Client
) -> None:
    both = (client, other)
    for each in both:  # each remembers what there was
        assert each.get("/v2/meters").status_code == 200
    for one, two in (both, both[::-1]):
        name = f"meter-{id(one)}"
        item = {
            "counter_name": name, "counter_type": "gauge", "counter_unit": "x", "resource_id": "r",
        }  # fmt: skip
        for each in (one, two, one):
            made = each.post(f"/v2/meters/{name}", json=[item])
            assert made.status_code in (200, 201), made.text
        for each in both:
            found = each.get("/v2/meters", params={"q.field": "name", "q.value": name}).json()
            assert [m["unit"] for m in found] == ["x"]


def test_what_another_version_tells_costs_no_connection(
    cluster: Cluster, client: httpx.Client
) -> None:
    bodies = [
        5, [], ["here"], ["here", {}], ["here", {"name": 1}, "", ""], ["here", {}, "", "", "more"],
        ["series", [[1]], "", ""], ["heard", [1], "", ""], ["stored", 7, "", ""], [1, 2, 3, 4],
        ["alarm", None, "", ""], ["endpoint", {}, "", ""], ["never heard of", 1, "", ""],
    ]  # fmt: skip

    async def tell() -> None:
        connection = await aiormq.connect(cluster.settings["HELIOMETER_BUS_URL"])
        channel = await connection.channel()
        for body in (b"\xc1", b"", *map(msgspec.msgpack.encode, bodies)):
            await channel.basic_publish(body, exchange="heliometer.changes")
            for part in range(PARTS):
                await channel.basic_publish(body, exchange="heliometer.work", routing_key=str(part))
        tick = aiormq.spec.Basic.Properties(message_type="tick")
        for part in range(PARTS):
            await channel.basic_publish(
                b"soon", exchange="heliometer.work", routing_key=str(part), properties=tick
            )
        await connection.close()

    before = [len(m.log()) for m in cluster.members]
    asyncio.run(tell())
    assert post(client, metric("versions")).status_code == 204
    eventually(lambda: stored(client, "versions") == 1, SOON_S, cluster.logs)
    time.sleep(1)
    for member, start in zip(cluster.members, before, strict=True):
        assert "the connection to RabbitMQ" not in member.log()[start:]
        assert "no longer owned" not in member.log()[start:]


def test_a_part_whose_decisions_are_refused_is_taken_up_anew(
    cluster: Cluster, client: httpx.Client, owner: Member
) -> None:
    alarm = make_alarm(client, "refused", "max(refused{}) > 5")
    psql("update evaluation set epoch = epoch + 1", cluster.settings["HELIOMETER_RESOURCES_URL"])
    before = len(owner.log())
    assert post(client, metric("refused", 10)).status_code == 204
    eventually(lambda: "has another owner" in owner.log()[before:], SOON_S, cluster.logs)
    goes_off(client, alarm, "refused")
    history = client.get(f"/v1.1/alarms/{alarm}/history").json()["history"]
    assert len(history) == 1, history
    assert "the connection to RabbitMQ" not in owner.log()[before:]


def test_an_alarm_made_while_its_part_is_taken_over_is_watched(
    cluster: Cluster, client: httpx.Client, owner: Member, stops: Path
) -> None:
    owner.stop()
    (stops / "while a part is taken over").touch()
    owner.start()
    eventually((stops / "waiting").exists, SOON_S)
    alarm = make_alarm(client, "meanwhile", "max(meanwhile{}) > 5")
    (stops / "while a part is taken over").unlink()
    goes_off(client, alarm, "meanwhile")


@pytest.mark.parametrize("where", ["before the batch is made", "before the insert is sent"])
def test_an_owner_that_stood_still_stores_nothing_twice(
    where: str, cluster: Cluster, client: httpx.Client, owner: Member, stops: Path
) -> None:
    namespace = where.replace(" ", "-")
    heir = cluster.add("evaluator")
    assert owner.process is not None
    try:
        assert post(client, metric(namespace, host="warm")).status_code == 204
        (stops / where).touch()
        assert post(client, metric(namespace), "frozen" + where).status_code == 204
        eventually(lambda: not (stops / where).exists(), SOON_S)
        assert post(client, metric(namespace)).status_code == 204
        eventually(lambda: stored(client, namespace) == 3, SOON_S, cluster.logs)
    finally:
        for member in (owner, heir):
            assert member.process is not None
            member.process.send_signal(signal.SIGCONT)
    time.sleep(3)
    assert stored(client, namespace) == 3
    heir.stop()
    cluster.members.remove(heir)


def test_a_report_that_is_sent_again_after_a_fail_over_is_not_stored_twice(
    cluster: Cluster, client: httpx.Client, owner: Member
) -> None:
    api = cluster.members[0]

    def heliometer(*arguments: str, given: str = "") -> str:
        return subprocess.run(
            [sys.executable, "-m", "heliometer", *arguments, "--data-dir", str(api.data_dir)],
            input=given, capture_output=True, text=True, timeout=60, check=True,
            env=api.environment,
        ).stdout.strip()  # fmt: skip

    projects = [heliometer("project", "create", f"p{n}") for n in range(4)]
    heliometer("user", "create", "agent", "--project", "p0", "--role", "agent",
               "--password-stdin", given="a long password")  # fmt: skip
    password = {"username": "agent", "password": "a long password"}
    auth = {"tenantName": "p0", "passwordCredentials": password}
    reply = httpx.post(f"{cluster.api[0]}/identity/v2.0/tokens", json={"auth": auth}, timeout=20)
    token = reply.json()["access"]["token"]["id"]
    body = json.dumps(
        {"reports": [{"project": p, "metrics": [metric("hpcs.test")]} for p in projects]}
    )
    headers = {"X-Auth-Token": token, "Content-Type": "application/json", "Idempotency-Key": "r"}

    def report(url: str) -> None:
        reply = httpx.post(f"{url}/v1.1/metrics/reports", content=body, headers=headers, timeout=30)
        assert reply.status_code in (200, 204), reply.text

    def rows() -> str:
        text = (
            "SELECT count() FROM measurements WHERE series IN "
            "(SELECT id FROM series WHERE namespace = 'hpcs.test')"
        )
        return clickhouse(text, cluster.settings["HELIOMETER_METRICS_URL"])

    report(cluster.api[0])
    eventually(lambda: rows() == "4", SOON_S, cluster.logs)
    owner.stop(signal.SIGKILL)
    owner.start()
    report(cluster.api[1])  # which has not seen it yet
    assert post(client, metric("after")).status_code == 204
    eventually(lambda: stored(client, "after") == 1, SOON_S, cluster.logs)
    time.sleep(1)
    assert rows() == "4"


class Stream:
    """The demo project's endpoint, which subscribed to a series that nobody has posted yet."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        reply = client.post("/v1.1/endpoints")
        assert reply.status_code == 201, reply.text
        endpoint = reply.json()["endpoint"]
        self.path = f"/v1.1/endpoints/{endpoint['id']}"
        self._part = shard_of(endpoint["uri"].rpartition("/")[2], PARTS)
        self._namespace = endpoint["id"]
        fields = {"endpoint_id": endpoint["id"], "namespace": self._namespace,
                  "dimensions": {"host": "a"}}  # fmt: skip
        reply = client.post("/v1.1/subscriptions", json={"subscription": fields})
        assert reply.status_code == 201, reply.text

    def post(self) -> None:
        assert post(self._client, metric(self._namespace)).status_code == 204

    def has(self, number: int) -> bool:
        """Whether so many messages came; after a fail-over some may come twice."""
        reply = self._client.get(self.path)
        return int(reply.json()["endpoint"]["queue"]["published"]) >= number

    def is_of(self, member: Member) -> bool:
        """Whether it owns the project's part."""
        told = [line for line in member.log().splitlines() if f"shard {self._part} is" in line]
        return bool(told) and "no longer owned" not in told[-1]


@pytest.fixture
def stream(client: httpx.Client) -> Iterator[Stream]:
    found = Stream(client)
    yield found
    assert client.delete(found.path).status_code == 204


def test_a_series_that_the_former_owner_stored_first_goes_on_flowing(
    cluster: Cluster, owner: Member, stream: Stream
) -> None:
    heir = cluster.add("evaluator")
    try:
        eventually(lambda: "is owned" in heir.log(), SOON_S, cluster.logs)
        former = heir if stream.is_of(heir) else owner
        stream.post()
        eventually(lambda: stream.has(1), SOON_S, cluster.logs)
        former.stop(signal.SIGKILL)
        stream.post()
        eventually(lambda: stream.has(2), SOON_S, cluster.logs)
    finally:
        heir.stop()
        cluster.members.remove(heir)


def test_measurements_flow_that_are_stored_before_the_subscriptions_can_be_read(
    cluster: Cluster, owner: Member, stream: Stream
) -> None:
    stream.post()
    eventually(lambda: stream.has(1), SOON_S, cluster.logs)
    owner.stop(signal.SIGKILL)
    text = "begin; lock table subscriptions; select pg_sleep(5); commit"
    url = cluster.settings["HELIOMETER_RESOURCES_URL"]
    locked = threading.Thread(target=psql, args=(text, url))
    locked.start()
    stream.post()
    owner.start()
    eventually(lambda: stream.has(2), SOON_S, cluster.logs)
    locked.join()


def test_a_full_queue_refuses_and_recovers(
    cluster: Cluster, client: httpx.Client, owner: Member
) -> None:
    owner.stop(signal.SIGKILL)
    now, taken = time.time(), 0
    rows = 4000
    each = {"namespace": "full", "dimensions": {"host": "a"},
            "time_values": [[round(now - n / 1000, 3), n] for n in range(rows)]}  # fmt: skip
    for _ in range(40):
        reply = post(client, [each])
        if reply.status_code != 204:
            break
        taken += 1
    assert reply.status_code == 503, reply.text
    assert int(reply.headers["Retry-After"]) >= 1
    assert "room" in reply.text
    assert taken > 5
    owner.start()
    eventually(lambda: stored(client, "full") == taken * rows, SOON_S, cluster.logs)
    eventually(lambda: post(client, metric("room")).status_code == 204, SOON_S)
