"""Every process of a cluster restarted, one after the other, while clients post and ask through
nginx: not one request fails, and what they posted is there once."""

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from cluster import Cluster, Member, running_cluster
from engine_servers import Nginx, start_nginx
from eventually import eventually

pytestmark = pytest.mark.engines

NAMESPACE = "rolling"
CLIENTS = 8
POSTS_A_QUERY = 20
PAUSE_S = 2.0
"""Between two restarts: longer than nginx leaves a process alone that it could not reach."""
STOPPED_S = 10.0


class Client:
    """Posts one measurement after the other into a series of its own, as fast as it can, and asks
    now and then. Those with even numbers name their posts."""

    def __init__(self, number: int, url: str, token: str) -> None:
        self.number = number
        self.posted = 0
        self.asked = 0
        self.slowest_s = 0.0
        self.failed: list[str] = []
        self._address = urlsplit(url).netloc
        self._token = token
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End it, with the request that is under way."""
        self._over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        metric = {"namespace": NAMESPACE, "dimensions": {"client": str(self.number)}, "value": 1}
        body = json.dumps(metric)
        queries = ["/v1.1/alarms", f"/v1.1/metrics?{_query()}", "/identity/v3"]
        while not self._over.is_set():
            named = {"Idempotency-Key": f"{self.number}-{self.posted}"}
            extra = {"Content-Type": "application/json"} | ({} if self.number % 2 else named)
            if self._ask(connection, "POST", "/v1.1/metrics", 204, body, extra):
                self.posted += 1
            if self.posted % POSTS_A_QUERY == 0:
                path = queries[self.asked % len(queries)]
                self.asked += self._ask(connection, "GET", path, 200)
        connection.close()

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        status: int,
        body: str | None = None,
        extra: dict[str, str] | None = None,
    ) -> bool:
        began = time.monotonic()
        try:
            connection.request(method, path, body, {"X-Auth-Token": self._token, **(extra or {})})
            reply = connection.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(f"{time.time():.3f} {method} {path}: {error!r}")
            connection.close()
            return False
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        if reply.status != status:
            self.failed.append(f"{time.time():.3f} {method} {path}: {reply.status} {text[:200]!r}")
        return reply.status == status


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path, ("api", "api", "evaluator,feed,notifier")) as running:
        yield running


@pytest.fixture
def nginx(tmp_path: Path, cluster: Cluster) -> Iterator[Nginx]:
    with start_nginx(tmp_path / "nginx", cluster.api) as running:
        yield running


@pytest.fixture
def clients(cluster: Cluster, nginx: Nginx) -> Iterator[list[Client]]:
    token = cluster.token()
    running = [Client(number, nginx.url, token) for number in range(CLIENTS)]
    yield running
    for client in running:
        client.stop()


def _query() -> str:
    start = datetime.fromtimestamp(time.time() - 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"namespace={NAMESPACE}&start_time={quote(start)}&statistics=count&period=86400"


def stored(client: httpx.Client) -> Counter[int]:
    """How many measurements each client's series has."""
    reply = client.get(f"/v1.1/metrics?{_query()}")
    assert reply.status_code == 200, reply.text
    counts: Counter[int] = Counter()
    for series in reply.json():
        counts[int(series["dimensions"]["client"])] += sum(series["datapoints"]["count"])
    return counts


def restart(member: Member) -> None:
    """Stop it in good order, and start it on the same port."""
    began = time.monotonic()
    assert member.stop() == 0, member.log()[-2000:]
    stopped = time.monotonic()
    assert stopped - began < STOPPED_S
    member.start()
    away_s = time.monotonic() - stopped
    print(f"{member.roles}: stopped in {stopped - began:.1f} s, back {away_s:.1f} s later")


@pytest.mark.reliability(12)
def test_no_request_fails_while_every_process_is_restarted(
    cluster: Cluster, nginx: Nginx, clients: list[Client], tmp_path: Path
) -> None:
    time.sleep(PAUSE_S)
    began, before = time.monotonic(), sum(client.posted for client in clients)
    for _ in range(2):
        for member in cluster.with_role("api"):
            restart(member)
            time.sleep(PAUSE_S)
    (owner,) = cluster.with_role("evaluator")
    restart(owner)
    time.sleep(PAUSE_S)
    seconds = time.monotonic() - began
    for client in clients:
        client.stop()
    posted = {client.number: client.posted for client in clients}
    rate = (sum(posted.values()) - before) / seconds
    asked, slowest_s = sum(c.asked for c in clients), max(c.slowest_s for c in clients)
    print(
        f"{rate:.0f} posts a second for {seconds:.0f} s, {asked} queries, slowest {slowest_s:.1f} s"
    )
    nginx_says = (tmp_path / "nginx" / "log").read_text()[-3000:]
    failed = [text for client in clients for text in client.failed]
    assert failed == [], f"{len(failed)}: {failed[:5]}\n{nginx_says}\n{cluster.logs()}"
    assert all(client.posted and client.asked for client in clients)
    cluster.wait_until_healthy()
    with cluster.client() as asking:
        eventually(lambda: stored(asking) == posted, 30, lambda: f"{posted}: {stored(asking)}")


def test_one_that_is_told_to_stop_says_so_before_it_does(cluster: Cluster) -> None:
    """So that proxies that ask for health send nobody there any more."""
    first, other = cluster.with_role("api")
    assert first.process is not None
    first.process.terminate()
    begin = time.monotonic()
    said: list[tuple[int, int, int]] = []
    with contextlib.suppress(httpx.ConnectError):
        while True:
            reply = httpx.get(f"{first.url}/v2/health", timeout=5)
            alive = httpx.head(f"{first.url}/v2/health", timeout=5)
            served = httpx.get(f"{first.url}/", timeout=5)
            said.append((reply.status_code, alive.status_code, served.status_code))
            if reply.status_code == 503:
                assert reply.json()["failed"] == {"process": "draining"}
                assert served.headers["Connection"] == "close"
            time.sleep(0.05)
    assert (503, 503, 200) in said
    assert (200, 204, 200) not in said[said.index((503, 503, 200)) :]
    assert first.wait() == 0
    assert 1.0 <= time.monotonic() - begin < STOPPED_S
    assert httpx.get(f"{other.url}/v2/health").status_code == 200
    first.start()
