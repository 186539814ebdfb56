"""Posts over many series while alarms watch them: all of it is there, and alarms are evaluated."""

import itertools
import json
import re
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from conftest import RunningServer
from effort import SOAK, effort
from soak.recording import Measured

BLOCK = 500
"""Series in a post."""
BLOCKS = effort(4, 400)
ALARMS = effort(5, 5000)
SECONDS = effort(1, 1800)
CLIENTS = effort(2, 8)


class Client(threading.Thread):
    """Posts a value of each series of its blocks, one block after the other, each once at least."""

    def __init__(self, url: str, token: str, blocks: list[int], until: float) -> None:
        super().__init__(daemon=True)
        self._url, self._token, self._until = url, token, until
        self._bodies = {block: body(block) for block in blocks}
        self.taken = dict.fromkeys(blocks, 0)
        self.seconds: list[float] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        headers = {"X-Auth-Token": self._token, "Content-Type": "application/json"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=60) as client:
            for number, block in enumerate(itertools.cycle(self._bodies)):
                began = time.monotonic()
                if number >= len(self._bodies) and began > self._until:
                    return
                reply = client.post("/v1.1/metrics/aggregate", content=self._bodies[block])
                self.seconds.append(time.monotonic() - began)
                if reply.status_code == 204:
                    self.taken[block] += 1
                else:
                    self.wrong.append(reply.text)


def body(block: int) -> bytes:
    metrics = [
        {"namespace": "load", "dimensions": {"block": str(block), "n": str(n)}, "value": 1}
        for n in range(BLOCK)
    ]
    return json.dumps(metrics).encode()


@pytest.mark.reliability(1)
def test_all_that_is_posted_is_there(fresh_server: RunningServer, measured: Measured) -> None:
    fresh_server.environment |= {
        "HELIOMETER_LIMITS_REQUESTS_PER_SECOND": "100000",
        "HELIOMETER_LIMITS_ALARMS_PER_PROJECT": "10000",
    }
    server = fresh_server.start()
    client = server.client()
    for number in range(ALARMS):
        expression = f"count(load{{block={number % BLOCKS}, n={number % BLOCK}}}) < 0"
        fields = {"alarm": {"name": f"a{number}", "expression": expression}}
        made = client.post("/v1.1/alarms", json=fields)
        assert made.status_code == 201, made.text
    started = time.monotonic()
    token = server.token()
    clients = [
        Client(server.url, token, list(range(c, BLOCKS, CLIENTS)), started + SECONDS)
        for c in range(CLIENTS)
    ]
    for each in clients:
        each.start()
    lags = []
    while any(each.is_alive() for each in clients):
        for each in clients:
            each.join(2 / CLIENTS)
        lags.append(evaluation_lag(client))
    seconds = time.monotonic() - started
    assert not [wrong for each in clients for wrong in each.wrong]
    day = datetime.now(UTC) - timedelta(days=1)
    for each in clients:
        for block, posts in each.taken.items():
            query = {
                "namespace": "load", "dimensions": f"block:{block}", "statistics": "count",
                "period": str(7 * 86_400), "start_time": day.isoformat(),
            }  # fmt: skip
            found = client.get("/v1.1/metrics", params=query).json()
            assert len(found) == (BLOCK if posts else 0)
            assert all(sum(one["datapoints"]["count"]) == posts for one in found), block
    answers = sorted(s for each in clients for s in each.seconds)
    rate = BLOCK * sum(sum(each.taken.values()) for each in clients) / seconds
    p99 = answers[int(len(answers) * 0.99)]
    lag = sorted(lags)[int(len(lags) * 0.99)]
    measured(
        series=BLOCK * BLOCKS, alarms=ALARMS, seconds=SECONDS,
        points=f"{rate:.0f}/s", p99=f"{p99 * 1000:.0f} ms", lag_p99=f"{lag:.1f} s", lost=0,
    )  # fmt: skip
    if SOAK:  # speed is for a machine that does nothing else
        assert rate >= 50_000
        assert p99 <= 0.25
        assert lag <= 5


def evaluation_lag(client: httpx.Client) -> float:
    text = client.get("/metrics").text
    found = re.search(r"^heliometer_evaluation_lag_seconds (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0
