"""Health, while back-ends are taken away and come back, under load."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import RunningServer
from eventually import eventually
from mail_server import MailServer


@pytest.fixture
def mail() -> Iterator[MailServer]:
    running = MailServer().start()
    yield running
    running.stop()


@pytest.fixture
def server(tmp_path: Path, mail: MailServer) -> Iterator[RunningServer]:
    running = RunningServer(
        tmp_path / "var",
        {"HELIOMETER_COLLECTOR_ENABLED": "false", "HELIOMETER_EMAIL_URL": mail.url},
    ).start()
    over = threading.Event()

    def load() -> None:
        with running.client() as client:
            while not over.is_set():
                client.post("/v1.1/metrics", json={"namespace": "load", "value": 1})

    loading = threading.Thread(target=load)
    loading.start()
    yield running
    over.set()
    loading.join(30)
    assert running.stop() == 0


def wait_for(server: RunningServer, status: int, name: str = "") -> None:
    """Until health says so; whatever it says, the API itself is alive."""

    def answer() -> httpx.Response:
        reply = httpx.get(f"{server.url}/v2/health", timeout=10)
        assert httpx.head(f"{server.url}/v2/health").status_code == 204
        assert reply.status_code in (200, 503)
        return reply

    def so() -> httpx.Response | None:
        reply = answer()
        as_named = name in reply.text if name else reply.json() == {"status": "ok"}
        return reply if reply.status_code == status and as_named else None

    reply = eventually(so, why=lambda: answer().text, pause_s=0.2)
    assert reply is not None
    body = reply.json()
    if status == 200:
        found = {"status": "degraded", "degraded": {name: body["degraded"][name]}} if name else None
        assert body == (found or {"status": "ok"})
    if status == 503:
        assert body["error"] == {
            "code": 503, "message": f"Failed: {name}.", "title": "Service Unavailable",
        }  # fmt: skip
        assert list(body["failed"]) == [name]


def test_a_relay_that_goes_away_is_no_reason_to_go_elsewhere_and_so_does_its_return(
    server: RunningServer, mail: MailServer
) -> None:
    wait_for(server, 200)
    mail.stop()
    wait_for(server, 200, "email")
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    mail.start()
    wait_for(server, 200)


@pytest.mark.parametrize(
    ("file", "name"), [("resources.sqlite", "resources"), ("feed.sqlite", "messages")]
)
def test_a_store_that_cannot_write_shows_and_so_does_its_return(
    server: RunningServer, file: str, name: str
) -> None:
    wait_for(server, 200)
    other = sqlite3.connect(server.data_dir / file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")  # nobody else can write now
    wait_for(server, 503, name)
    # Nothing can be written, but all can be read.
    assert httpx.get(f"{server.url}/livez").json() == {"status": "ok"}
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    other.execute("ROLLBACK")
    other.close()
    wait_for(server, 200)
