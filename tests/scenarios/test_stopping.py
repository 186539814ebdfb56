"""A server that is stopped under load answers everybody who got through to it."""

import signal
import socket
import threading
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import pytest

from conftest import RunningServer
from effort import effort
from heliometer.http.server import FINISH_S
from soak.recording import Measured

CLIENTS = 8


class Poster:
    """Posts, each over a connection of its own, until nobody listens any more."""

    def __init__(self, server: RunningServer, token: str) -> None:
        where = urlsplit(server.url)
        assert where.hostname
        assert where.port
        self._address = (where.hostname, where.port)
        body = b'{"namespace": "stopping", "value": 1}'
        self._request = (
            f"POST /v1.1/metrics HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.taken = 0
        self.wrong: list[str] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection = socket.create_connection(self._address, 10)
            except ConnectionRefusedError:
                return
            with connection:
                try:
                    connection.sendall(self._request)
                    reply = connection.recv(1 << 16)
                except OSError as error:
                    self.wrong.append(repr(error))
                    continue
                if reply.startswith(b"HTTP/1.1 204 "):
                    self.taken += 1
                else:
                    self.wrong.append(repr(reply[:100]))


@pytest.mark.reliability(12)
def test_no_post_that_got_through_is_lost(fresh_server: RunningServer, measured: Measured) -> None:
    taken, slowest = 0, 0.0
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    for number in effort(signals, signals * 17):
        fresh_server.start()
        token = fresh_server.token()
        posters = [Poster(fresh_server, token) for _ in range(CLIENTS)]
        time.sleep(1)
        began = time.monotonic()
        assert fresh_server.stop(number) == 0
        slowest = max(slowest, time.monotonic() - began)
        assert slowest < 10
        for poster in posters:
            poster.thread.join(20)
            assert not poster.wrong
            taken += poster.taken
    measured(stops=effort(3, 51), requests=taken, broken=0, slowest_stop=f"{slowest:.1f} s")
    fresh_server.start()
    assert taken > 100
    with fresh_server.client(fresh_server.token()) as client:
        query = {
            "namespace": "stopping",
            "start_time": datetime.fromtimestamp(time.time() - 3600, UTC).isoformat(),
            "statistics": "count",
            "period": "86400",
        }
        (series,) = client.get("/v1.1/metrics", params=query).json()
        assert sum(series["datapoints"]["count"]) == taken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_with_idle_connections_stops_at_once(
    fresh_server: RunningServer, number: int
) -> None:
    fresh_server.start()
    with httpx.Client(base_url=fresh_server.url) as client:
        assert client.head("/v2/health").status_code == 204
        began = time.monotonic()
        assert fresh_server.stop(number) == 0
        assert time.monotonic() - began < FINISH_S, "it waited for them"
