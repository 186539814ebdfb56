"""Alarms of a cluster on a bad day: owners killed and engines failing, minute after minute."""

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from cluster import ROLES, Cluster
from effort import effort
from engine_servers import OwnEngines, psql
from eventually import eventually

pytestmark = pytest.mark.engines

MINUTES = effort(3, 30)
HIGH, LOW = 10, 0


class Wave(threading.Thread):
    """Posts one value every half second, high in even minutes and low in odd ones."""

    def __init__(self, urls: list[str], token: str) -> None:
        super().__init__(daemon=True)
        self._urls, self._token = urls, token
        self.ending = threading.Event()

    def run(self) -> None:
        """Until told to end; a post that is refused is sent again."""
        turn = 0
        headers = {"X-Auth-Token": self._token}
        while not self.ending.wait(0.5):
            now = time.time()
            value = LOW if now // 60 % 2 else HIGH
            body = {"namespace": "wave", "timestamp": now, "value": value}
            for _ in range(200):
                turn += 1
                try:
                    reply = httpx.post(
                        f"{self._urls[turn % 2]}/v1.1/metrics", json=body, headers=headers,
                        timeout=20,
                    )  # fmt: skip
                    if reply.status_code == 204:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.2)


@pytest.fixture
def own() -> Iterator[OwnEngines]:
    with OwnEngines("rabbitmq", "postgresql", "clickhouse") as engines:
        yield engines


@pytest.mark.reliability(10)
def test_transitions_are_those_of_an_undisturbed_day(own: OwnEngines, tmp_path: Path) -> None:
    psql("create database heliometer_test template template0 encoding 'UTF8' locale 'C'",
         own.urls.postgresql)  # fmt: skip
    outbox = tmp_path / "mail"
    settings = {
        "HELIOMETER_RESOURCES_URL": f"{own.urls.postgresql.rpartition('/')[0]}/heliometer_test",
        "HELIOMETER_METRICS_URL": f"{own.urls.clickhouse.rpartition('/')[0]}/heliometer_test",
        "HELIOMETER_BUS_URL": own.urls.rabbitmq,
        "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0",
        "HELIOMETER_EMAIL_URL": f"maildir:{outbox}",
        "HELIOMETER_ALARMS_AT_ONCE": "false",
    }
    cluster = Cluster(tmp_path, settings)
    try:
        for roles in ROLES:
            cluster.add(roles)
        cluster.wait_until_healthy()
        _live_through(cluster, own)
    finally:
        cluster.stop()


def _live_through(cluster: Cluster, own: OwnEngines) -> None:
    wave = Wave(cluster.api, cluster.token())
    client = cluster.client()
    wave.start()
    # The first minute that is seen whole.
    first = int(time.time()) // 60 + 1
    made = client.post("/v1.1/alarms", json={"alarm": {"name": "w", "expression": "max(wave) > 5"}})
    made.raise_for_status()
    alarm = made.json()["alarm"]["id"]
    ends = (first + MINUTES) * 60
    bad = _bad_things(cluster, own)
    while time.time() < ends - 25:
        next(bad)
    time.sleep(max(0.0, ends + 12 - time.time()))
    wave.ending.set()
    wave.join(60)
    # Of the minute after the last, only the first seconds are posted; they are like the rest.
    minutes = range(first, first + MINUTES + 1)

    def history() -> list[tuple[int, str]]:
        reply = client.get(f"/v1.1/alarms/{alarm}/history")
        reply.raise_for_status()
        found = reply.json()["history"]
        # Named by the minute that was evaluated, not the one that ended it.
        return [
            (int(datetime.fromisoformat(e["minute"]).timestamp()) // 60 - 1, e["new_state"])
            for e in reversed(found)
        ]

    expected = [(minute, "ALARM" if minute % 2 == 0 else "OK") for minute in minutes]

    def complete() -> bool:
        found = [h for h in history() if h[0] >= first]
        # What was seen of the minute before the first may have made a transition of its own; the
        # minute after the last may be evaluated already, or not.
        return any(found == expected[a:b] for a in (0, 1) for b in (MINUTES, MINUTES + 1))

    eventually(complete, 90, lambda: f"{history()} and not {expected}\n{cluster.logs()}")
    states = [state for _, state in history()]
    assert all(one != other for one, other in pairwise(states)), states


def _bad_things(cluster: Cluster, own: OwnEngines) -> Iterator[None]:
    while True:
        for owner in cluster.with_role("evaluator"):
            owner.stop(9)
            time.sleep(3)
            owner.start()
            yield
            time.sleep(8)
        own.pause("clickhouse")
        time.sleep(8)
        own.resume("clickhouse")
        yield
        time.sleep(5)
        own.kill("postgresql")
        time.sleep(3)
        own.start("postgresql")
        yield
        time.sleep(5)
        own.kill("rabbitmq")
        time.sleep(1)
        own.start("rabbitmq")
        yield
        time.sleep(5)
