"""Each engine killed, frozen and full while 20 000 points a second come in.

What was acknowledged is there afterwards, once; posters are told to come again; alarms have the
history of an undisturbed run; and nobody has to do anything but bring the engine back.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from cluster import ROLES, Cluster
from engine_servers import MIB, OwnEngines, psql
from eventually import eventually
from poster import NAMESPACE, SERIES, Load

pytestmark = pytest.mark.engines

OUTAGE_S = 6.0
CALM_S = 4.0
RECOVERY_S = 60.0


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[OwnEngines]:
    small = {"postgresql": 220 * MIB, "clickhouse": 1500 * MIB}
    with OwnEngines("rabbitmq", small=small) as engines:
        yield engines


@pytest.fixture
def cluster(own: OwnEngines, tmp_path: Path) -> Iterator[Cluster]:
    psql("create database heliometer_test template template0 encoding 'UTF8' locale 'C'",
         own.urls.postgresql)  # fmt: skip
    running = Cluster(
        tmp_path,
        {
            "HELIOMETER_RESOURCES_URL": f"{own.urls.postgresql.rpartition('/')[0]}/heliometer_test",
            "HELIOMETER_METRICS_URL": f"{own.urls.clickhouse.rpartition('/')[0]}/heliometer_test",
            "HELIOMETER_METRICS_MIN_FREE_BYTES": str(64 * MIB),
            "HELIOMETER_BUS_URL": own.urls.rabbitmq,
            "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0",
        },
    )
    try:
        for roles in ROLES:
            running.add(roles)
        running.wait_until_healthy()
        yield running
    finally:
        running.stop()


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    posting = Load(cluster.api, cluster.token()).start()
    yield posting
    posting.abandon()


def stored(client: httpx.Client, namespace: str, **dimensions: str) -> dict[str, int]:
    """How many measurements each series has, by its only dimension."""
    start = datetime.fromtimestamp(time.time() - 3600, UTC)
    query = {
        "namespace": namespace,
        "start_time": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "statistics": "count",
        "period": "86400",
    }
    if dimensions:
        query["dimensions"] = ",".join(f"{k}:{v}" for k, v in dimensions.items())
    reply = client.get("/v1.1/metrics", params=query)
    assert reply.status_code == 200, reply.text
    counts: dict[str, int] = {}
    for each in reply.json():
        (name,) = each["dimensions"].values()
        counts[name] = counts.get(name, 0) + sum(each["datapoints"]["count"])
    return counts


def check(cluster: Cluster, load: Load) -> None:
    """Everything that was acknowledged is there, once."""
    cluster.wait_until_healthy(RECOVERY_S)
    assert not load.broken, load.broken[:5]
    for reply in load.refused:
        assert reply.status_code == 503, reply.text
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.json()["fault"]["faultstring"]
    each = load.points // SERIES
    with cluster.client() as client:
        wanted = {f"h{n}": load.keyed * each for n in range(SERIES)}
        eventually(
            lambda: stored(client, NAMESPACE) == wanted,
            RECOVERY_S,
            lambda: f"{load.keyed} posts of {each}: {stored(client, NAMESPACE)}\n{cluster.logs()}",
        )
        once = stored(client, "once")
    assert {n for n in load.taken if once.get(n) != load.points} == set()
    assert {n for n, found in once.items() if found != load.points or n not in load.tried} == set()


Fault = tuple[Callable[[OwnEngines], None], Callable[[OwnEngines], None]]


def _leave_room(own: OwnEngines, room: str) -> None:
    """RabbitMQ takes nothing when less than so much of its disk is free."""
    own.control("set_disk_free_limit", room)
    own.wait_for_disk_alarm(room == "1000GB")


def _make_room(own: OwnEngines) -> None:
    own.relieve("postgresql")
    own.start("postgresql")


def faults(name: str) -> dict[str, Fault]:
    """What happens to an engine, and how it ends."""
    full: dict[str, Fault] = {
        "rabbitmq": (
            lambda own: _leave_room(own, "1000GB"),
            lambda own: _leave_room(own, "10MB"),
        ),
        "clickhouse": (lambda own: own.fill("clickhouse"), lambda own: own.relieve("clickhouse")),
        "postgresql": (lambda own: own.fill("postgresql"), _make_room),
    }
    return {
        "killed": (lambda own: own.kill(name), lambda own: own.start(name)),
        "frozen": (lambda own: own.pause(name), lambda own: own.resume(name)),
        "full": full[name],
    }


@pytest.mark.parametrize("name", ["clickhouse", "rabbitmq", "postgresql"])
@pytest.mark.reliability(8)
def test_an_engine_that_fails_costs_nothing_but_time(
    name: str, own: OwnEngines, cluster: Cluster, load: Load
) -> None:
    time.sleep(CALM_S)
    for what, (happens, ends) in faults(name).items():
        before = load.keyed
        happens(own)
        time.sleep(OUTAGE_S)
        ends(own)
        ended, taken = time.monotonic(), load.keyed
        eventually(lambda: load.keyed > taken + 20, RECOVERY_S, cluster.logs)  # noqa: B023
        print(
            f"{name} {what}: {taken - before} posts with a key were taken meanwhile, "
            f"{len(load.refused)} refused so far; taken again {time.monotonic() - ended:.1f} s "
            f"after; slowest {load.slowest_s:.1f} s"
        )
        time.sleep(CALM_S)
    load.stop()
    assert load.keyed > 20
    check(cluster, load)


@pytest.mark.reliability(2)
def test_processes_that_are_killed_cost_nothing_but_time(cluster: Cluster, load: Load) -> None:
    time.sleep(CALM_S)
    for _ in range(3):
        for owner in cluster.with_role("evaluator"):
            owner.stop(9)
            time.sleep(4)
            owner.start()
            time.sleep(4)
    load.stop()
    check(cluster, load)
