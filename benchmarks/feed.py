"""The feed: posts over HTTP on one side, AMQP consumers on the other, all on this machine."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Options, latencies
from benchmarks.load import Outcome, drive
from benchmarks.rabbitmq import PROGRAM, RabbitMQ
from benchmarks.server import PASSWORD, Client, Server, request

PROJECTS = 50
BATCH = 500
PREFETCH = 2000


def run(options: Options) -> list[Figure]:
    """Messages a second to one consumer and to fifty, and how long one takes."""
    seconds = 3.0 if options.quick else 15.0
    figures: list[Figure] = []
    data = options.folder / "data"
    names = [f"p{n}" for n in range(PROJECTS)]
    asyncio.run(_make_projects(data, names))
    with Server(data) as server:
        projects = [Project(server, name) for name in names]
        for number, wanted in ((1, 25_000), (PROJECTS, 20_000)):
            figures += _throughput(server, projects[:number], seconds, wanted)
        figures += _latency(server, projects[0], seconds)
        figures += _aside(server, projects[0], seconds)
    if not Path(PROGRAM).exists():
        print("rabbitmq-server is not installed: no figures beside it")
        return figures
    return figures + _beside(options, names, seconds)


def _beside(options: Options, names: list[str], seconds: float) -> list[Figure]:
    """The same through RabbitMQ."""
    data = options.folder / "beside"
    asyncio.run(_make_projects(data, names[:1]))
    rabbitmq = RabbitMQ(options.folder / "rabbitmq").start()
    try:
        settings = {
            "HELIOMETER_AMQP_BACKEND": "rabbitmq",
            "HELIOMETER_AMQP_URL": rabbitmq.url,
            "HELIOMETER_AMQP_MANAGEMENT_URL": rabbitmq.management_url,
        }
        with Server(data, settings) as server:
            project = Project(server, names[0])
            return [
                replace(figure, name=f"RabbitMQ: {figure.name}", at_least=None, at_most=None)
                for figure in (
                    *_throughput(server, [project], min(seconds, 5), 0),
                    *_latency(server, project, seconds),
                )
            ]
    finally:
        rabbitmq.stop()


class Project:
    """A project with an endpoint and a subscription."""

    def __init__(self, server: Server, name: str) -> None:
        credentials = {"username": "bench", "password": PASSWORD}
        body = {"auth": {"tenantName": name, "passwordCredentials": credentials}}
        self._server = server
        answer = self._send("POST", "/identity/v2.0/tokens", body, {})
        self.headers = {"X-Auth-Token": answer["access"]["token"]["id"]}
        endpoint = self._send("POST", "/v1.1/endpoints", None, self.headers)["endpoint"]
        meta = endpoint["meta"]
        self.endpoint = {
            "uri": endpoint["uri"],
            "user": meta["amqp_username"],
            "password": meta["amqp_password"],
            "queue": meta["amqp_queue"],
        }
        fields = {
            "endpoint_id": endpoint["id"],
            "namespace": "feed",
            "dimensions": {"host": "host-0001"},
        }
        self._send("POST", "/v1.1/subscriptions", {"subscription": fields}, self.headers)

    def body(self, number: int, value: float, host: str = "host-0001") -> bytes:
        """A post of several measurements of the series."""
        metric = {
            "namespace": "feed",
            "dimensions": {"host": host},
            "timestamp": int(time.time()),
            "value": value,
        }
        document = json.dumps([metric] * number).encode()
        return request("POST", "/v1.1/metrics/aggregate", document, self.headers)

    def _send(self, method: str, path: str, document: Any, headers: dict[str, str]) -> Any:
        body = b"" if document is None else json.dumps(document).encode()
        with Client(self._server.address) as client:
            answer = client.send(request(method, path, body, headers))
        if answer.status >= 300:
            raise AssertionError(f"{path} answered {answer.status}: {answer.body[:300]!r}")
        return answer.json()


def _throughput(
    server: Server, projects: list[Project], seconds: float, wanted: int
) -> list[Figure]:
    bodies = [p.body(BATCH, 1.0) for p in projects]
    with Readers(projects, seconds + 60) as readers:
        cpu = server.cpu_seconds
        turn = iter(range(1 << 60))
        outcome = drive(
            server.address,
            2,
            lambda _: bodies[next(turn) % len(bodies)],
            seconds,
        )
        seen = readers.result()
        cpu = server.cpu_seconds - cpu
    outcome.require(204)
    published = outcome.requests * BATCH
    if seen["count"] != published:
        raise AssertionError(f"{published} were published, {seen['count']} arrived")
    who = "one consumer" if len(projects) == 1 else f"{len(projects)} consumers of as many projects"
    return [
        Figure(
            f"messages to {who}",
            seen["count"] / seen["seconds"],
            "/s",
            at_least=wanted,
            note=f"{published:,} posted in {outcome.seconds:.1f} s, {BATCH} a post, all arrived; "
            f"processor: server {cpu / published * 1e6:.1f} µs a message, "
            f"consumers {seen['cpu'] / published * 1e6:.1f} µs",
        )
    ]


def _latency(server: Server, project: Project, seconds: float) -> list[Figure]:
    """5000 messages a second, in posts of twenty."""
    with Readers([project], seconds + 60, keep=True) as readers:
        outcome = Outcome()
        with Client(server.address) as client:
            begin = time.perf_counter()
            for turn in range(int(seconds * 250)):
                ahead = begin + turn / 250 - time.perf_counter()
                if ahead > 0:
                    time.sleep(ahead)
                answer = client.send(project.body(20, time.time()))
                outcome.statuses[answer.status] += 1
            took = time.perf_counter() - begin
        seen = readers.result()
    outcome.require(204)
    return latencies(
        "from post to consumer at 5000/s",
        seen["delays"],
        p50_at_most=50,
        p99_at_most=300,
        note=f"{len(seen['delays']):,} messages in {took:.1f} s, 20 a post, one connection",
    )


def _aside(server: Server, project: Project, seconds: float) -> list[Figure]:
    """Posts that nobody subscribed to, in a project with a subscription, and in one without."""
    bodies = {
        "without": Project.body(_As({"X-Auth-Token": server.sign_in()[0]}), 1000, 1.0, "other"),  # type: ignore[arg-type]
        "with": Project.body(project, 1000, 1.0, "other"),
    }
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for name in ("without", "with", "with", "without") * 3:  # whoever is later has more data
        body = bodies[name]
        outcome = drive(server.address, 4, lambda _, body=body: body, seconds / 4)  # type: ignore[misc]
        outcome.require(204)
        rates[name].append(outcome.requests / outcome.seconds)
    typical = {name: statistics.median(found) for name, found in rates.items()}
    return [
        Figure(
            "posts that nobody subscribed to, against a project without subscriptions",
            typical["with"] / typical["without"],
            "",
            at_least=0.95,
            note=f"{typical['with'] * 1000:,.0f} points/s, median of six rounds each",
        )
    ]


class _As:
    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


class Readers:
    """Consumers in a process of their own, as a context."""

    def __init__(self, projects: list[Project], seconds: float, *, keep: bool = False) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "benchmarks.amqp_reader", str(seconds), str(PREFETCH),
                "keep" if keep else "count",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        for project in projects:
            self._process.stdin.write(json.dumps(project.endpoint) + "\n")
        self._process.stdin.close()

    def __enter__(self) -> "Readers":
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise AssertionError("the consumers did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def result(self) -> dict[str, Any]:
        """What they saw, once nothing comes any more."""
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))


async def _make_projects(folder: Path, names: list[str]) -> None:
    from heliometer.config import ServerSettings, Settings
    from heliometer.identity.builtin.service import BuiltinIdentity
    from heliometer.storage.sql.accounts import SqlAccountStore
    from heliometer.storage.sql.database import Database
    from heliometer.storage.sql.tokens import SqlTokenStore

    folder.mkdir(parents=True)
    settings = Settings(server=ServerSettings(data_dir=str(folder)))
    database = await Database.open(settings)
    identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), settings)
    await identity.bootstrap(PASSWORD)
    for number, name in enumerate(names):
        await identity.create_project(name)
        if number == 0:
            await identity.create_user("bench", PASSWORD, name)
        else:
            await identity.grant("bench", name, "member")
    identity.close()
    await database.close()
