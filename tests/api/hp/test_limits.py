"""What is too large, too much or too often; each refusal in its documented form."""

import asyncio
import gzip
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.people import BODY_LIMIT, USERS, People, populate
from conftest import RunningServer, embedded_only


def exchange(people: People, *pieces: bytes) -> bytes:
    """Send pieces over a socket of its own; return the reply, up to the closing or, once it has
    begun, a second's silence."""
    host, _, port = people.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        reply = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
        except ConnectionError:
            pass  # it was refused before all of it was sent
        connection.settimeout(20)
        try:
            while received := connection.recv(65536):
                reply += received
                connection.settimeout(1)
        except (TimeoutError, ConnectionError):
            pass
        return reply


def head(people: People, *more: str) -> bytes:
    lines = ["POST /v1.1/metrics HTTP/1.1", "Host: x", f"X-Auth-Token: {people.token('member')}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


@pytest.mark.reliability(19)
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(people: People) -> None:
    reply = exchange(people, head(people, f"Content-Length: {1 << 30}"))
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in reply.lower()
    fault = json.loads(reply.partition(b"\r\n\r\n")[2])["request_too_large"]
    assert fault["message"] == f"The body is larger than {BODY_LIMIT} bytes."


@pytest.mark.reliability(19)
def test_a_chunked_body_is_read_up_to_the_limit_only(people: People) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65536

    with people.client() as client:
        assert client.post("/v1.1/metrics", content=endless()).status_code == 413


def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not(people: People) -> None:
    metric = b'{"namespace": "limit", "value": 1}'
    with people.client() as client:
        for size, status in ((BODY_LIMIT, 204), (BODY_LIMIT + 1, 413)):
            assert client.post("/v1.1/metrics", content=metric.ljust(size)).status_code == status
            packed = gzip.compress(metric.ljust(size))
            encoded = {"Content-Encoding": "gzip"}
            reply = client.post("/v1.1/metrics", content=packed, headers=encoded)
            assert reply.status_code == status


@pytest.mark.parametrize("path", ["/v1.1/metrics", "/v1.1/alarms", "/identity/v2.0/tokens"])
def test_who_sends_all_before_reading_reads_why_it_was_refused(people: People, path: str) -> None:
    size = 8 * BODY_LIMIT
    lines = head(people, f"Content-Length: {size}").replace(b"/v1.1/metrics", path.encode(), 1)
    host, _, port = people.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(lines)
        for _ in range(8):
            connection.sendall(bytes(BODY_LIMIT))
        reply = b""
        while received := connection.recv(65536):
            reply += received
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"larger than" in reply


OPEN = (
    "/identity/v2.0/tokens",
    "/identity/v3/auth/tokens",
    "/v1.1/notification-addresses/validate",
    "/console/sign-in",
)


@pytest.mark.parametrize("path", OPEN)
def test_without_a_token_little_is_taken_and_nothing_compressed(people: People, path: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"} if "console" in path else {}
    with httpx.Client(base_url=people.server.url, headers=form) as client:
        packed = gzip.compress(b"[" + b"[]," * 100_000 + b"[]]")
        reply = client.post(path, content=packed, headers={"Content-Encoding": "gzip"})
        assert reply.status_code == 415
        assert client.post(path, content=b" " * 65_537).status_code == 413
        assert client.post(path, content=b"a" * 65_536).status_code in (400, 401, 422)


def peak_memory(people: People) -> int:
    """The most that the server ever held, in bytes; 0 where the system does not tell."""
    assert people.server.process is not None
    status = Path(f"/proc/{people.server.process.pid}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else "")
    return int(found[1]) << 10 if found else 0


@pytest.mark.reliability(19)
def test_a_gzip_bomb_is_refused_and_takes_no_memory(people: People) -> None:
    bomb = gzip.compress(bytes(256 << 20))
    assert len(bomb) < BODY_LIMIT
    before = peak_memory(people)
    with people.client() as client:
        for _ in range(3):
            reply = client.post("/v1.1/metrics", content=bomb, headers={"Content-Encoding": "gzip"})
            assert reply.status_code == 413
    assert peak_memory(people) - before < 32 << 20


@pytest.mark.parametrize("cut", ["short", "long"])
def test_gzip_that_is_cut_off_or_followed_by_more_is_malformed(people: People, cut: str) -> None:
    packed = gzip.compress(b'{"namespace": "cut", "value": 1}')
    body = packed[:-4] if cut == "short" else packed + b"more"
    with people.client() as client:
        reply = client.post("/v1.1/metrics", content=body, headers={"Content-Encoding": "gzip"})
        assert reply.status_code == 400
        assert "gzip" in reply.json()["bad_request"]["message"]
        series = client.get("/v1.1/metrics/series", params={"namespace": "cut"}).json()
        assert series["series"] == []


@pytest.mark.parametrize("size", [66_000, 1 << 20])
@pytest.mark.reliability(17)
def test_headers_that_are_too_large_are_431(people: People, size: int) -> None:
    with httpx.Client(base_url=people.server.url) as client:
        reply = client.get("/v1.1/metering", headers={"X-Auth-Token": "x" * size})
    assert reply.status_code == 431
    assert reply.json()["request_too_large"]["message"] == (
        "The headers are larger than 65536 bytes."
    )


@pytest.mark.reliability(19)
def test_headers_without_end_are_cut_off_and_hold_nobody_up(people: People) -> None:
    host, _, port = people.server.url.removeprefix("http://").partition(":")
    with (
        socket.create_connection((host, int(port)), 20) as connection,
        pytest.raises(ConnectionError),
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        for _ in range(100):
            connection.sendall(b"x" * (1 << 20))
    with httpx.Client(base_url=people.server.url) as client:
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("size", [5000, 60_000])
@pytest.mark.reliability(17)
def test_an_absurd_token_is_401(people: People, size: int) -> None:
    with httpx.Client(base_url=people.server.url) as client:
        reply = client.get("/v1.1/metering", headers={"X-Auth-Token": "x" * size})
    assert reply.status_code == 401


@pytest.mark.reliability(17)
def test_two_tokens_are_none(people: People) -> None:
    token = people.token("member")
    for pair in ((token, token), (token, "x"), ("x", token)):
        with httpx.Client(base_url=people.server.url) as client:
            reply = client.get("/v1.1/metering", headers=[("X-Auth-Token", t) for t in pair])
        assert reply.status_code == 401
        assert "once" in reply.json()["unauthorized"]["message"]


def test_an_accept_header_in_two_lines_is_one(people: People) -> None:
    headers = [("Accept", "text/html"), ("Accept", "application/json")]
    with people.client() as client:
        del client.headers["Accept"]
        assert client.get("/v1.1/metering", headers=headers).status_code == 200


def test_of_ten_thousand_metrics_one_is_wrong_and_none_is_stored(people: People) -> None:
    metrics = [
        {"namespace": "many", "dimensions": {"n": str(n)}, "value": n} for n in range(10_000)
    ]
    with people.client() as client:
        metrics[7_654]["dimensions"] = {"n": ""}
        reply = client.post("/v1.1/metrics/aggregate", json=metrics)
        assert reply.status_code == 422
        assert reply.json()["unprocessable_entity"]["message"].startswith("[7654].dimensions.n: ")
        listed = "/v1.1/metrics/series?namespace=many&limit=1000"
        assert client.get(listed).json() == {"series": [], "links": []}
        metrics[7_654]["dimensions"] = {"n": "7654"}
        assert client.post("/v1.1/metrics/aggregate", json=metrics).status_code == 204
        pages = 0
        found: list[str] = []
        while listed:
            page = client.get(listed).json()
            found += [series["dimensions"]["n"] for series in page["series"]]
            listed = page["links"][0]["href"] if page["links"] else ""
            pages += 1
        assert pages == 10
        assert found == sorted(str(n) for n in range(10_000))
        query = {"namespace": "many", "statistics": "max", "start_time": "2020-01-01"}
        reply = client.get("/v1.1/metrics", params={**query, "period": 31622400})
        assert reply.status_code == 400
        assert reply.json()["bad_request"]["message"] == (
            "The query selects 10000 series; one query may return 5000."
        )


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with narrow limits. Its users' requests are counted from the first."""
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_LIMITS_SERIES_PER_PROJECT": "2",
        "HELIOMETER_LIMITS_REQUESTS_PER_SECOND": "5",
        "HELIOMETER_METRICS_MIN_FREE_BYTES": str(1 << 62),
    }
    folder: Path = tmp_path_factory.mktemp("narrow") / "var"
    running = RunningServer(folder, environment).start()
    asyncio.run(populate(running.settings))
    yield running
    assert running.stop() == 0


@embedded_only
@pytest.mark.reliability(20)
def test_too_many_requests_or_series_are_429_and_a_full_disk_is_503(narrow: RunningServer) -> None:
    def post(client: httpx.Client, name: str) -> httpx.Response:
        metric = {"namespace": "n", "dimensions": {"name": name}, "value": 1}
        return client.post("/v1.1/metrics", json=metric)

    with narrow.client(narrow.token("member", USERS["member"], "secret")) as client:
        reply = post(client, "a")
        assert reply.status_code == 503
        assert reply.json() == {
            "fault": {
                "faultstring": reply.json()["fault"]["faultstring"],
                "detail": {"errorcode": "unavailable"},
            }
        }
        assert "almost full" in reply.json()["fault"]["faultstring"]
        assert int(reply.headers["Retry-After"]) > 0
        assert client.get("/v1.1/metering").status_code == 200, "reading goes on"
        post(client, "b")
        reply = post(client, "c")
        assert reply.status_code == 429
        assert "may have 2" in reply.json()["rate_limited"]["message"]
        replies = [client.get("/v1.1/metering") for _ in range(20)]
        refused = [r for r in replies if r.status_code == 429]
        assert refused
        assert all(int(r.headers["Retry-After"]) > 0 for r in refused)
        assert "requests a second" in refused[0].json()["rate_limited"]["message"]
    with narrow.client(narrow.token("stranger", USERS["stranger"], "secret")) as neighbour:
        assert neighbour.get("/v1.1/metering").status_code == 200


@pytest.mark.parametrize(
    ("dimensions", "why"),
    [
        ({f"k{n}": "v" for n in range(65)}, "64 dimensions, not 65"),
        ({f"k{n}": "é" * 290 for n in range(64)}, "16384 bytes, not"),
    ],
)
def test_a_series_has_bounds(people: People, dimensions: dict[str, str], why: str) -> None:
    metric = {"namespace": "bounds", "dimensions": dimensions, "value": 1}
    with people.client() as client:
        reply = client.post("/v1.1/metrics/aggregate", json=[metric])
        assert reply.status_code == 422
        assert why in reply.json()["unprocessable_entity"]["message"]
        metric["dimensions"] = {f"k{n}": "v" * 100 for n in range(64)}
        assert client.post("/v1.1/metrics/aggregate", json=[metric]).status_code == 204
        label = ",".join(f"k{n}={'é' * 290}" for n in range(60))
        reply = client.post("/write?db=bounds", content=f"m,{label} value=1".encode())
        assert reply.status_code == 400
