"""Statistics over HTTP: one series and a hundred; unsealed, sealed, with a month stored."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

from benchmarks.bodies import METRICS_A_HOST, NAMESPACE, Rounds, dimensions, heliometer_body
from benchmarks.figures import Figure, Options, latencies
from benchmarks.load import drive
from benchmarks.server import Client, Server, request

MINUTES = 1440
SERIES = 10_000
QUICK_SERIES = 1000
DAYS = 30
QUICK_DAYS = 4
BATCH = 1000
POINTS = 10
"""Minutes in one vector: few enough that the rows arrive in the order of time, as they would from
posts of each minute."""
NOT_YET = {"HELIOMETER_METRICS_SEAL_AFTER": str(30 * 86_400)}
"""Keeps the server from sealing before it is told to."""

Params = dict[str, str]


def run(options: Options) -> list[Figure]:
    """Latencies of one client that asks again and again."""
    series = QUICK_SERIES if options.quick else SERIES
    times = 20 if options.quick else 200
    data = options.folder / "data"
    start_s = int(time.time()) // 60 * 60 - MINUTES * 60
    with Server(data, NOT_YET) as server:
        token, project = server.sign_in()
        headers = {"X-Auth-Token": token}
        loaded = _load(server, headers, series, start_s)
        ask = _Asker(server, headers, series, start_s, times)
        figures = [loaded, *ask.all("unsealed", one_p50=30)]
        began = time.perf_counter()
        server.seal()
        figures.append(Figure("sealing that day", time.perf_counter() - began, "s"))
        sealed = ask.all("sealed", one_p50=8, hundred_p50=60)
        figures += sealed
        memory = server.memory_bytes / 1e6
        figures.append(Figure("memory after these queries", memory, "MB"))

    days = (QUICK_DAYS if options.quick else DAYS) - 1
    command = [sys.executable, "-m", "benchmarks.stored", str(data), "--project", project]
    # Two days back: today and yesterday hold the day that was posted.
    subprocess.run(
        [*command, "--days", str(days), "--ago", "2", "--series", str(series)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with Server(data, NOT_YET) as server:
        token, _ = server.sign_in()
        ask = _Asker(server, {"X-Auth-Token": token}, series, start_s, times)
        month = ask.all(f"sealed, {days + 1} days stored")
        figures += month
        for name, now, before in zip(
            ("one series", "100 series"), month[::2], sealed[::2], strict=False
        ):
            figures.append(
                Figure(
                    f"{name}: {days + 1} days stored, against one",
                    now.value / before.value,
                    "×",
                    at_most=1.2,
                    note=f"start to ready took {server.seconds_to_ready:.2f} s",
                )
            )
    return figures


def _load(server: Server, headers: dict[str, str], series: int, start_s: int) -> Figure:
    requests = Rounds(
        heliometer_body,
        headers,
        series=series,
        batch=BATCH,
        points=POINTS,
        start_s=start_s,
        step_s=60,
        rounds=MINUTES // POINTS,
    )
    outcome = drive(server.address, 4, requests)
    outcome.require(204)
    points = outcome.requests * BATCH * POINTS
    assert points == series * MINUTES
    return Figure("loading a day, ten minutes a vector", points / outcome.seconds, "points/s")


class _Asker:
    """Asks for five statistics of a day by 5 minutes, and checks that nothing is missing."""

    def __init__(
        self, server: Server, headers: dict[str, str], series: int, start_s: int, times: int
    ) -> None:
        self._server = server
        self._headers = headers
        self._series = series
        self._start_s = start_s
        self._times = times
        self._random = random.Random(1)

    def all(
        self, state: str, *, one_p50: float | None = None, hundred_p50: float | None = None
    ) -> list[Figure]:
        """One series; the 100 of a host; one metric of all hosts (100 where all are loaded)."""
        a_host = {"host": "host-0007"}
        a_metric = {"metric_name": "metric-017"}
        few = max(5, self._times // 4)
        return [
            *self._ask(f"one series, {state}", self._one, 1, self._times, one_p50),
            *self._ask(
                f"100 series (a host), {state}", lambda: a_host, METRICS_A_HOST, few, hundred_p50
            ),
            *self._ask(
                f"{self._series // METRICS_A_HOST} series (a metric), {state}",
                lambda: a_metric,
                self._series // METRICS_A_HOST,
                few,
                None,
            ),
        ]

    def _one(self) -> Params:
        return dimensions(self._random.randrange(self._series))

    def _ask(
        self, name: str, which: Callable[[], Params], series: int, times: int, p50: float | None
    ) -> list[Figure]:
        taken = []
        with Client(self._server.address) as client:
            for i in range(times + 3):
                message = request("GET", self._path(which()), headers=self._headers)
                began = time.perf_counter()
                answer = client.send(message)
                if i >= 3:  # the first ones warm up
                    taken.append(time.perf_counter() - began)
                assert answer.status == 200, answer.body[:300]
            found = answer.json()
        assert len(found) == series, f"{len(found)} series instead of {series}"
        counted = sum(sum(one["datapoints"]["count"]) for one in found)
        assert counted == series * MINUTES, f"{counted} measurements instead of {series * MINUTES}"
        return latencies(name, taken, p50_at_most=p50)

    def _path(self, wanted: Params) -> str:
        return "/v1.1/metrics?" + urlencode(
            {
                "namespace": NAMESPACE,
                "dimensions": ",".join(f"{k}:{v}" for k, v in wanted.items()),
                "statistics": "avg,sum,min,max,count",
                "start_time": _iso(self._start_s),
                "end_time": _iso(self._start_s + MINUTES * 60),
                "period": "300",
            }
        )


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
