"""``heliometer tail`` in a process of its own, against a real server."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import RunningServer


class Following:
    """A ``heliometer tail`` that runs."""

    def __init__(self, server: RunningServer, *arguments: str, password: str = "") -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
        environment |= {"OS_PASSWORD": server.password, "PYTHONUNBUFFERED": "1"}
        if password:
            environment["HELIOMETER_AMQP_PASSWORD"] = password
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heliometer", "tail", "--url", server.url,
             "--username", server.username, "--project", server.project, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def result(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def server(server: RunningServer) -> RunningServer:
    """The usual one, as somebody with a project of its own sees it."""
    tenant = server.tenant()
    with tenant.client() as client:
        for name in ("orders", "returns"):
            body = {"namespace": "shop", "dimensions": {"name": name}, "value": 1}
            assert client.post("/v1.1/metrics", json=body).status_code == 204
    return tenant


def post_until(server: RunningServer, following: Following, name: str, value: float) -> None:
    """Post until the follower is done: nobody outside knows since when it listens."""
    deadline = time.monotonic() + 20
    with server.client() as client:
        while following.process.poll() is None:
            assert time.monotonic() < deadline
            body = {"namespace": "shop", "dimensions": {"name": name}, "value": value}
            client.post("/v1.1/metrics", json=body)
            time.sleep(0.1)


def left_behind(server: RunningServer) -> int:
    with server.client() as client:
        endpoints = client.get("/v1.1/endpoints").json()["endpoints"]
        return len(endpoints) + len(client.get("/v1.1/subscriptions").json()["subscriptions"])


def test_it_shows_what_arrives_and_leaves_nothing_behind(server: RunningServer) -> None:
    following = Following(server, "-n", "2")
    post_until(server, following, "orders", 41.5)
    code, out, err = following.result()
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("41.5  shop  name=orders")
    assert "Ctrl-C" in err
    assert left_behind(server) == 0


def test_json_and_filters(server: RunningServer) -> None:
    following = Following(server, "--json", "-n", "1", "--namespace", "shop", "-d", "name=returns")
    with server.client() as client:
        deadline = time.monotonic() + 20
        while following.process.poll() is None:
            assert time.monotonic() < deadline
            for name in ("orders", "returns"):
                body = {"namespace": "shop", "dimensions": {"name": name}, "value": 2}
                client.post("/v1.1/metrics", json=body)
            time.sleep(0.1)
    code, out, err = following.result()
    assert code == 0, err
    assert json.loads(out)["dimensions"] == {"name": "returns"}


def test_ctrl_c_ends_it_cleanly(server: RunningServer) -> None:
    following = Following(server)
    assert following.process.stderr is not None
    assert "following" in following.process.stderr.readline()
    following.process.send_signal(signal.SIGINT)
    code, _, _ = following.result()
    assert code == 0
    assert left_behind(server) == 0


def test_an_endpoint_that_is_there_needs_its_password_and_stays(server: RunningServer) -> None:
    with server.client() as client:
        endpoint = client.post("/v1.1/endpoints").json()["endpoint"]
    code, out, err = Following(server).result()
    assert (code, out) == (1, "")
    assert "HELIOMETER_AMQP_PASSWORD" in err
    code, _, err = Following(server, password="wrong").result()
    assert code == 1
    assert "cannot read the feed" in err
    following = Following(server, "-n", "1", password=endpoint["meta"]["amqp_password"])
    post_until(server, following, "orders", 3)
    assert following.result()[0] == 0
    assert left_behind(server) == 1, "the endpoint was not made by this command"
    with server.client() as client:
        shown = client.get(f"/v1.1/endpoints/{endpoint['id']}").json()["endpoint"]
    assert shown["queue"]["queued"] == shown["queue"]["published"], "nothing was taken from it"
