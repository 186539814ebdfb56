"""``packaging/nginx.conf`` in Debian's nginx: what is tried again, and what is not."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from conftest import RunningServer
from engine_servers import start_nginx

pytestmark = pytest.mark.engines

POST = {"namespace": "proxied", "value": 1.0}


class Breaker:
    """Takes a request, and closes the connection without a word: who knows what it did."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with closing(connection):
                head = connection.recv(1 << 16).decode()
                if not head:
                    return
                self.requests.append(head)

    def stop(self) -> None:
        """End it."""
        port = self._listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        self._thread.join(10)
        self._listener.close()


@contextmanager
def breaker() -> Iterator[Breaker]:
    """One that runs."""
    running = Breaker()
    try:
        yield running
    finally:
        running.stop()


def refused() -> str:
    """The URL of a process that does not run."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module")
def token(server: RunningServer) -> str:
    return server.token()


def test_a_process_that_is_down_costs_no_request(
    tmp_path: Path, server: RunningServer, token: str
) -> None:
    with (
        start_nginx(tmp_path / "nginx", [refused(), server.url]) as nginx,
        httpx.Client(base_url=nginx.url, headers={"X-Auth-Token": token}) as client,
    ):
        for _ in range(20):
            assert client.post("/v1.1/metrics", json=POST).status_code == 204
            assert client.get("/v1.1/alarms").status_code == 200


@pytest.mark.parametrize("named", [False, True])
def test_a_post_whose_connection_broke_is_sent_again_only_if_it_has_a_name(
    tmp_path: Path, server: RunningServer, token: str, named: bool
) -> None:
    headers = {"X-Auth-Token": token}
    statuses = []
    with (
        breaker() as broken,
        start_nginx(tmp_path / "nginx", [broken.url, server.url]) as nginx,
        httpx.Client(base_url=nginx.url, headers=headers) as client,
    ):
        for number in range(4):
            if named:
                client.headers["Idempotency-Key"] = f"{tmp_path.name}-{number}"
            reply = client.post("/v1.1/metrics", json=POST)
            statuses.append(reply.status_code)
            if reply.status_code != 204:
                assert reply.status_code == 503
                assert reply.headers["Retry-After"] == "2"
                assert reply.headers["Content-Type"] == "application/json"
                assert "Idempotency-Key" in reply.json()["fault"]["faultstring"]
        assert broken.requests, "nobody asked the broken one"
        broke = statuses.count(503)
        # Each request that the broken one got and that has no name is told so, and sent nowhere
        # else.
        assert broke == (0 if named else len(broken.requests))


def test_a_query_whose_connection_broke_is_asked_again(
    tmp_path: Path, server: RunningServer, token: str
) -> None:
    with (
        breaker() as broken,
        start_nginx(tmp_path / "nginx", [broken.url, server.url]) as nginx,
        httpx.Client(base_url=nginx.url, headers={"X-Auth-Token": token}) as client,
    ):
        for _ in range(4):
            assert client.get("/v1.1/alarms").status_code == 200
        assert broken.requests


def test_without_any_process_each_api_has_its_own_fault(tmp_path: Path) -> None:
    with (
        start_nginx(tmp_path / "nginx", [refused()]) as nginx,
        httpx.Client(base_url=nginx.url) as client,
    ):
        for path in ("/v1.1/metrics", "/v1.0/alarms", "/"):
            reply = client.post(path, json={}, headers={"Idempotency-Key": "a"})
            assert reply.status_code == 503
            assert reply.json()["fault"]["detail"]["errorcode"] == "unavailable"
        for path in ("/v2/meters", "/identity/v3/auth/tokens"):
            reply = client.get(path)
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == 503
            assert reply.headers["Retry-After"] == "2"


def test_what_the_process_is_told_of_the_client(tmp_path: Path) -> None:
    with (
        breaker() as broken,
        start_nginx(tmp_path / "nginx", [broken.url]) as nginx,
    ):
        httpx.get(f"{nginx.url}/v1.1/alarms", headers={"X-Forwarded-For": "198.51.100.1"})
        head = broken.requests[0].lower().splitlines()
        assert "x-forwarded-for: 127.0.0.1" in head
        assert "x-forwarded-proto: http" in head
        assert f"host: 127.0.0.1:{nginx.port}" in head


def test_a_body_too_large_is_refused_in_the_documented_form(
    tmp_path: Path, server: RunningServer, token: str
) -> None:
    body = b"[" + b" " * (16 << 20) + b"]"
    headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
    with start_nginx(tmp_path / "nginx", [server.url]) as nginx:
        for path in ("/v1.1/metrics", "/identity/v3/auth/tokens"):
            replies = [
                httpx.post(f"{url}{path}", content=body, headers=headers)
                for url in (server.url, nginx.url)
            ]
            assert [reply.status_code for reply in replies] == [413, 413]
            (ours, direct), (name, proxied) = (next(iter(r.json().items())) for r in replies)
            assert name == ours
            assert proxied["code"] == direct["code"] == 413
        headers["Idempotency-Key"] = tmp_path.name
        reply = httpx.post(f"{nginx.url}/v1.1/metrics", content=body, headers=headers)
        assert reply.status_code == 413
        fits = b"[" + b" " * ((16 << 20) - 3) + b"]"  # nothing is taken, but it is looked at
        reply = httpx.post(f"{nginx.url}/v1.1/metrics", content=fits, headers=headers)
        assert reply.status_code not in (413, 502, 503)


def test_processes_change_while_requests_go_on(
    tmp_path: Path, server: RunningServer, token: str
) -> None:
    with breaker() as broken, start_nginx(tmp_path / "nginx", [broken.url]) as nginx:
        reply = httpx.get(f"{nginx.url}/v1.1/alarms", headers={"X-Auth-Token": token})
        assert reply.status_code == 503
        nginx.use([server.url])
        begin = time.monotonic()
        reply = httpx.get(f"{nginx.url}/v1.1/alarms", headers={"X-Auth-Token": token})
        assert reply.status_code == 200
        assert time.monotonic() - begin < 5
