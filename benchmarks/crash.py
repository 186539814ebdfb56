"""kill -9 under load, again and again: is anything lost that was acknowledged, or there twice?

Each connection has a series of its own in each round, posts measurements a second apart whose
values count up, and remembers what was acknowledged. At the end every series is read at period 1,
where each datapoint is one measurement.
"""

import contextlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from benchmarks.figures import Figure, Options
from benchmarks.server import Client, Response, Server, ServerFailed, request

NAMESPACE = "crash"
CONNECTIONS = 8
SIZES = (1, 1, 1, 10, 100, 1000)
"""Measurements in a post: many small ones, as agents send, and a few large ones."""
DAY_S = 86_400
CHUNK_S = 100_000
"""Seconds asked for in one query."""


@dataclass(slots=True)
class Post:
    """One request: the measurements ``first`` to ``first + count`` of its series."""

    first: int
    count: int
    key: str = ""
    """Idempotency-Key, where the request is sent again after the crash."""


@dataclass(slots=True)
class Written:
    """What is known of one series."""

    name: str
    start_s: int
    acknowledged: int = 0
    """Measurements 0 … acknowledged - 1 must be there."""
    in_flight: Post | None = None
    """Sent, but not answered: there or not, whole or not at all."""
    repeated: bool = False
    """The one in flight was sent again, with its key, and acknowledged then."""

    @property
    def sent(self) -> int:
        """Measurements that may be there."""
        return self.acknowledged + (self.in_flight.count if self.in_flight else 0)

    @property
    def certain(self) -> int:
        """Measurements that must be there."""
        return self.sent if self.repeated else self.acknowledged


@dataclass(slots=True)
class Report:
    """What came of it."""

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    """Measurements with another value than was sent, or that nobody sent."""
    torn: int = 0
    """Requests of which only a part is there."""
    seals: int = 0
    seconds_to_ready: list[float] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.wrong or self.torn)


def run(options: Options) -> list[Figure]:
    """The figures of 20 rounds."""
    seed = int(time.time())
    report = crash(options.folder / "data", 3 if options.quick else 20, seed)
    return [
        Figure(
            f"acknowledged points lost in {report.rounds} × kill -9",
            report.lost,
            f"of {report.acknowledged:,}".replace(",", " "),
            at_most=0,
        ),
        Figure("points stored twice", report.doubled, "", at_most=0),
        Figure("points with a wrong value", report.wrong, "", at_most=0),
        Figure("requests stored in part", report.torn, "", at_most=0),
        Figure(
            "ready after kill -9, worst",
            max(report.seconds_to_ready),
            "s",
            at_most=3,
            note=f"{report.seals} sealings were done or under way in between; seed {seed}",
        ),
    ]


def crash(data_dir: Path, rounds: int, seed: int) -> Report:
    """Start, load, kill, ``rounds`` times; then read everything back."""
    rng = random.Random(seed)
    report = Report(rounds)
    everything: list[Written] = []
    for number in range(rounds):
        with Server(data_dir) as server:
            report.seconds_to_ready.append(server.seconds_to_ready)
            token, _ = server.sign_in()
            _send_again(server, token, everything)
            written = [_series(number, c) for c in range(CONNECTIONS)]
            report.seals += _load_and_kill(server, token, written, rng)
            everything += written
    with Server(data_dir) as server:
        report.seconds_to_ready.append(server.seconds_to_ready)
        token, _ = server.sign_in()
        _send_again(server, token, everything)
        for series in everything:
            report.acknowledged += series.certain
            _verify(server, token, series, report)
        server.seal()
        for series in everything:
            _verify(server, token, series, report)
    return report


def _series(number: int, connection: int) -> Written:
    # Some write today, others days ago, as after an outage: all in the range that is accepted.
    start = int(time.time()) // DAY_S * DAY_S - (1 + connection) * DAY_S
    return Written(f"round-{number}-connection-{connection}", start)


def _load_and_kill(
    server: Server, token: str, written: Sequence[Written], rng: random.Random
) -> int:
    """Post over all connections, seal perhaps, kill at a random moment. Returns the sealings."""
    failures: list[Exception] = []
    threads = [
        threading.Thread(target=_post_until_it_ends, args=(server.address, token, one, n, failures))
        for n, one in enumerate(written)
    ]
    for thread in threads:
        thread.start()
    killer = threading.Timer(rng.uniform(0.2, 2.5), server.kill)
    killer.start()
    seals = 0
    with contextlib.suppress(OSError):  # killed while it was at it, which is the point
        while killer.is_alive():
            time.sleep(rng.uniform(0, 1))
            seals += 1
            server.seal()
    for thread in [*threads, killer]:
        thread.join()
    if failures:
        raise failures[0]
    return seals


def _post_until_it_ends(
    address: tuple[str, int], token: str, series: Written, number: int, failures: list[Exception]
) -> None:
    rng = random.Random(series.name)
    try:
        with Client(address) as client:
            while True:
                post = Post(series.acknowledged, rng.choice(SIZES))
                if number % 2:
                    post.key = f"{series.name}-{post.first}"
                message = _message(series, post, token)
                series.in_flight = post
                _require_204(client.send(message))
                series.acknowledged += post.count
                series.in_flight = None
    except OSError:
        return
    except ServerFailed as error:
        failures.append(error)


def _send_again(server: Server, token: str, everything: Sequence[Written]) -> None:
    """Retry what has a key and was not answered, twice, as a client in doubt does."""
    with Client(server.address) as client:
        for series in everything:
            post = series.in_flight
            if post is None or not post.key or series.repeated:
                continue
            for _ in range(2):
                _require_204(client.send(_message(series, post, token)))
            series.repeated = True


def _message(series: Written, post: Post, token: str) -> bytes:
    numbers = range(post.first, post.first + post.count)
    headers = {"X-Auth-Token": token}
    if post.key:
        headers["Idempotency-Key"] = post.key
    metric = {"namespace": NAMESPACE, "dimensions": {"series": series.name}}
    if post.count == 1:
        one = {**metric, "timestamp": series.start_s + post.first, "value": _value(post.first)}
        return request("POST", "/v1.1/metrics", msgspec.json.encode(one), headers)
    if post.count == 10:
        pairs = [[series.start_s + n, _value(n)] for n in numbers]
        vector = {**metric, "time_values": pairs}
        return request("POST", "/v1.1/metrics", msgspec.json.encode(vector), headers)
    many = [{**metric, "timestamp": series.start_s + n, "value": _value(n)} for n in numbers]
    return request("POST", "/v1.1/metrics/aggregate", msgspec.json.encode(many), headers)


def _value(number: int) -> float:
    return number + 0.5


def _require_204(answer: Response) -> None:
    if answer.status != 204:
        raise ServerFailed(f"posting answered {answer.status}: {answer.body[:300]!r}")


def _verify(server: Server, token: str, series: Written, report: Report) -> None:
    """Read the series second by second and add what is not as it must be."""
    counts, sums = _read(server, token, series, series.sent + 10)
    report.lost += sum(1 for n in range(series.certain) if n not in counts)
    report.doubled += sum(1 for count in counts.values() if count > 1)
    report.wrong += sum(
        1
        for n, count in counts.items()
        if n >= series.sent or (count == 1 and sums[n] != _value(n))
    )
    there = sum(1 for n in range(series.certain, series.sent) if n in counts)
    report.torn += there not in (0, series.sent - series.certain)


def _read(
    server: Server, token: str, series: Written, seconds: int
) -> tuple[dict[int, int], dict[int, float]]:
    """How often each measurement is there, and the sum of its values."""
    counts: dict[int, int] = {}
    sums: dict[int, float] = {}
    with Client(server.address) as client:
        for first in range(0, seconds, CHUNK_S):
            start = series.start_s + first
            query = urlencode(
                {
                    "namespace": NAMESPACE,
                    "dimensions": f"series:{series.name}",
                    "statistics": "count,sum",
                    "start_time": _iso(start),
                    "end_time": _iso(start + min(CHUNK_S, seconds - first)),
                    "period": "1",
                }
            )
            message = request("GET", f"/v1.1/metrics?{query}", headers={"X-Auth-Token": token})
            answer = client.send(message)
            if answer.status != 200:
                raise ServerFailed(f"reading answered {answer.status}: {answer.body[:300]!r}")
            for one in answer.json():
                points = one["datapoints"]
                numbers = [t - series.start_s for t in points["timestamp"]]
                counts.update(zip(numbers, points["count"], strict=True))
                sums.update(zip(numbers, points["sum"], strict=True))
    return counts, sums


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
