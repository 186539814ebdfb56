"""Answers that clients do not read: 503 in the form of each dialect, until they are read."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from conftest import RunningServer, embedded_only
from eventually import eventually

pytestmark = embedded_only
SAMPLES = 30_000
"""Some 10 MiB of JSON, which no pair of sockets buffers."""
LIST = f"/v2/samples?limit={SAMPLES}&q.field=meter&q.value=m"
STATISTICS = "/v1.1/metrics?namespace=n&statistics=avg,max&period=1&start_time="
FORMS = [(LIST, "error", "message"), (STATISTICS, "fault", "faultstring")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a budget for little more than one long answer, and many samples."""
    folder: Path = tmp_path_factory.mktemp("long-answers")
    limits = {
        "HELIOMETER_LIMITS_ANSWERS_BYTES": "1000000",
        "HELIOMETER_LIMITS_ANSWERS_BYTES_PER_PROJECT": "1000000",
    }
    running = RunningServer(folder / "var", limits).start()
    try:
        now = int(time.time())
        with running.client(running.token()) as client:
            values = [[now - n, n] for n in range(SAMPLES)]
            body = {"namespace": "n", "dimensions": {"metric_name": "m"}, "time_values": values}
            assert client.post("/v1.1/metrics", json=body).status_code == 204
        yield running
    finally:
        running.stop()


def not_reading(server: RunningServer, path: str) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    lines = [f"GET {path} HTTP/1.1", "Host: h", f"X-Auth-Token: {server.token()}", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def until(
    client: httpx.Client,
    path: str,
    status: int,
    before: Callable[[], None] = lambda: None,
) -> httpx.Response:
    """The first answer with this status; ``before`` is called before each attempt."""
    replies: list[httpx.Response] = []

    def answers() -> bool:
        before()
        replies.append(client.get(path))
        return replies[-1].status_code == status

    eventually(answers)
    return replies[-1]


@pytest.mark.parametrize(("path", "element", "field"), FORMS)
def test_beyond_the_budget_it_is_503_in_the_dialect_s_form(
    server: RunningServer, path: str, element: str, field: str
) -> None:
    if path == STATISTICS:
        path += time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time.time() - SAMPLES - 60))
    holding: list[socket.socket] = []
    with server.client(server.token()) as client:
        # Whoever does not read is cut after a while, so that there must be others.
        reply = until(client, path, 503, lambda: holding.append(not_reading(server, LIST)))
        assert "have not read" in reply.json()[element][field]
        assert int(reply.headers["retry-after"]) > 0
        assert client.get("/v2/samples?limit=100").status_code == 200
        for each in holding:
            each.close()
        until(client, path, 200)


def test_a_long_list_is_complete(server: RunningServer) -> None:
    with server.client(server.token()) as client:
        volumes = [each["volume"] for each in until(client, LIST, 200).json()]
        assert volumes == list(range(SAMPLES))
