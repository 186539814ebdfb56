"""Statistics over HTTP: one series and a hundred; unsealed, sealed, with a month stored."""

import contextlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
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
Target = tuple[Server, dict[str, str]]
"""A server, and the headers that sign in there."""


def run(options: Options) -> list[Figure]:
    """Latencies of one client that asks again and again."""
    series = QUICK_SERIES if options.quick else SERIES
    times = 20 if options.quick else 200
    days = QUICK_DAYS if options.quick else DAYS
    one_day, month = options.folder / "one-day", options.folder / "month"
    start_s = int(time.time()) // 60 * 60 - MINUTES * 60
    ask = _Asker(series, start_s, times)
    with Server(one_day, NOT_YET) as server:
        headers, project = _sign_in(server)
        figures = [_load(server, headers, series, start_s)]
        figures += ask.all([(server, headers)], ["unsealed"], one_p50=30)
        began = time.perf_counter()
        server.seal()
        figures.append(Figure("sealing that day", time.perf_counter() - began, "s"))
        figures += ask.all([(server, headers)], ["sealed"], one_p50=8, hundred_p50=60)
        figures.append(Figure("memory after these queries", server.memory_bytes / 1e6, "MB"))

    shutil.copytree(one_day, month)
    # Two days back: today and yesterday hold the day that was posted.
    command = [sys.executable, "-m", "benchmarks.stored", str(month), "--project", project]
    command += ["--days", str(days - 1), "--ago", "2", "--series", str(series)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with Server(one_day, NOT_YET) as few, Server(month, NOT_YET) as many:
        # Asked in turn, so that whatever else the machine does slows both.
        targets = [(few, headers), (many, headers)]
        names = ["one day stored", f"{days} days stored"]
        found = ask.all(targets, names)
        for before, after in zip(found[::4], found[2::4], strict=True):
            what = before.name.split(",")[0]
            times_slower = after.value / before.value
            name = f"{what}: {days} days against one, p50"
            found.append(Figure(name, times_slower, "×", at_most=1.2))
        ready = many.seconds_to_ready
        figures += [*found, Figure(f"start to ready, {days} days stored", ready, "s", at_most=2)]
    return figures


def _sign_in(server: Server) -> tuple[dict[str, str], str]:
    token, project = server.sign_in()
    return {"X-Auth-Token": token}, project


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

    def __init__(self, series: int, start_s: int, times: int) -> None:
        self._series = series
        self._start_s = start_s
        self._times = times
        self._random = random.Random(1)

    def all(
        self,
        targets: Sequence[Target],
        states: Sequence[str],
        *,
        one_p50: float | None = None,
        hundred_p50: float | None = None,
    ) -> list[Figure]:
        """One series; the 100 of a host; one metric of all hosts (100 where all are loaded)."""
        hosts = self._series // METRICS_A_HOST
        few = max(5, self._times // 4)
        kinds: list[tuple[str, Callable[[], Params], int, int, float | None]] = [
            ("one series", self._one, 1, self._times, one_p50),
            ("100 series (a host)", self._host, METRICS_A_HOST, few, hundred_p50),
            (f"{hosts} series (a metric)", self._metric, hosts, few, None),
        ]
        figures = []
        for name, which, number, times, p50 in kinds:
            taken = self._ask(targets, which, number, times)
            for state, seconds in zip(states, taken, strict=True):
                figures += latencies(f"{name}, {state}", seconds, p50_at_most=p50)
        return figures

    def _one(self) -> Params:
        return dimensions(self._random.randrange(self._series))

    def _host(self) -> Params:
        return {"host": "host-0007"}

    def _metric(self) -> Params:
        return {"metric_name": "metric-017"}

    def _ask(
        self, targets: Sequence[Target], which: Callable[[], Params], series: int, times: int
    ) -> list[list[float]]:
        """Seconds that each target took, time after time."""
        taken: list[list[float]] = [[] for _ in targets]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(server.address)) for server, _ in targets]
            for i in range(times + 3):
                path = self._path(which())
                for k, (client, (_, headers)) in enumerate(zip(clients, targets, strict=True)):
                    began = time.perf_counter()
                    answer = client.send(request("GET", path, headers=headers))
                    if i >= 3:  # the first ones warm up
                        taken[k].append(time.perf_counter() - began)
                    assert answer.status == 200, answer.body[:300]
                    if i == 0:
                        self._check(answer.json(), series)
        return taken

    def _check(self, found: list[dict[str, Any]], series: int) -> None:
        assert len(found) == series, f"{len(found)} series instead of {series}"
        counted = sum(sum(one["datapoints"]["count"]) for one in found)
        assert counted == series * MINUTES, f"{counted} points instead of {series * MINUTES}"

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
