"""A canary in every place that takes a secret; then everything is searched for it that is not the
key, or meant to hold it."""

import base64
import re
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from conftest import PASSWORD, RunningServer, embedded_only
from console.visitor import Visitor
from eventually import eventually

pytestmark = embedded_only

CANARY = "k4n4rienv0gel"


class Receiver:
    """Takes what webhooks and apprise post, and refuses what goes to ``/refused``."""

    def __init__(self) -> None:
        taken = self.taken = []  # type: list[bytes]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(410 if "refused" in self.path else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture
def server(fresh_server: RunningServer) -> RunningServer:
    fresh_server.environment |= {
        "HELIOMETER_WEBHOOK_ALLOW_PRIVATE": "true",
        "HELIOMETER_NOTIFY_APPRISE_SCHEMES": "json",
        "HELIOMETER_EMAIL_URL": f"smtp://{CANARY}:{CANARY}-smtp@127.0.0.1:9",
        "HELIOMETER_NOTIFY_HEARTBEAT_TO": f"http://127.0.0.1:9/{CANARY}-heartbeat",
        "HELIOMETER_NOTIFY_HEARTBEAT_INTERVAL": "10",
        "HELIOMETER_LOG_LEVEL": "debug",
    }
    return fresh_server.start()


def created(client: httpx.Client, path: str, element: str, **fields: Any) -> dict[str, Any]:
    reply = client.post(path, json={element: fields})
    assert reply.status_code == 201, reply.text
    document: dict[str, Any] = reply.json()[element]
    return document


def spellings(secret: str) -> list[bytes]:
    """A secret as it is, and as it may travel."""
    return [
        secret.encode(), quote(secret, safe="").encode(), base64.b64encode(secret.encode())[:-3],
    ]  # fmt: skip


def found_in(content: bytes, secrets: dict[str, str]) -> list[str]:
    return [
        what for what, secret in secrets.items() if any(s in content for s in spellings(secret))
    ]


def fill(server: RunningServer, client: httpx.Client, port: int) -> dict[str, str]:
    """Give the server secrets in all places, and have it use them; what was given or came back."""
    secrets = {"canary": CANARY, "token": server.token(), "password": PASSWORD}
    hook = f"http://127.0.0.1:{port}/{CANARY}?token={CANARY}"
    urls = {
        "taken": ("WEBHOOK", hook),
        "refused": ("WEBHOOK", hook.replace("?", "/refused?")),
        "unreachable": ("WEBHOOK", f"http://127.0.0.1:9/{CANARY}"),
        "apprise": ("APPRISE", f"json://joe:{CANARY}@127.0.0.1:{port}/{CANARY}"),
        "mail": ("EMAIL", "joe@mail.com"),
    }
    ids = {}
    for name, (type_, address) in urls.items():
        fields = {"name": name, "type": type_, "address": address}
        method = created(client, "/v1.1/notification-methods", "notification_method", **fields)
        ids[name] = method["id"]
        if type_ == "WEBHOOK":
            secrets[f"secret of {name}"] = method["secret"]
        # Whoever may change it sees all of it.
        shown = client.get(f"/v1.1/notification-methods/{ids[name]}").json()
        assert shown["notification_method"]["address"] == address
        assert "secret" not in shown["notification_method"]
    for wrong in (f"http://joe:{CANARY}@h/", f"ftp://{CANARY}", f"slack:{CANARY}"):
        for type_ in ("WEBHOOK", "APPRISE"):
            reply = client.post("/v1.1/notification-methods", json={
                "notification_method": {"name": "n", "type": type_, "address": wrong}
            })  # fmt: skip
            assert reply.status_code == 400
            assert CANARY not in reply.text
    alarm = {
        "name": "by url", "type": "threshold", "alarm_actions": [f"{hook}&alarm"],
        "threshold_rule": {"meter_name": "m", "comparison_operator": "gt", "threshold": 1.0},
    }  # fmt: skip
    reply = client.post("/v2/alarms", json=alarm)
    assert reply.status_code == 201, reply.text
    assert reply.json()["alarm_actions"] == [f"{hook}&alarm"]
    created(
        client, "/v1.1/alarms", "alarm", name="hot", expression="max(shop) > 1",
        alarm_actions=[ids["taken"], ids["apprise"]],
    )  # fmt: skip
    metric = {"namespace": "shop", "dimensions": {"a": "b"}, "value": 5}
    assert client.post("/v1.1/metrics", json=metric).status_code == 204
    for method_id in ids.values():
        assert client.post(f"/v1.1/notification-methods/{method_id}/test").status_code == 202
    endpoint = client.post("/v1.1/endpoints")
    assert endpoint.status_code == 201, endpoint.text
    secrets["feed password"] = endpoint.json()["endpoint"]["meta"]["amqp_password"]
    number = {"type": "SMS", "address": "+12063823454"}
    created(client, "/v1.1/notification-addresses", "notification_address", **number)
    outbox = server.data_dir / "outbox" / "sms"
    text = eventually(lambda: "".join(p.read_text() for p in outbox.glob("*.txt")))
    code = re.search(r"\b\d{10}\b", text)
    assert code
    secrets["code"] = code[0]
    return secrets


@pytest.mark.reliability(23)
def test_canaries_are_found_nowhere(
    server: RunningServer, receiver: Receiver, tmp_path: Path
) -> None:
    done = server.command(
        *("user", "create", "eve", "--project", "demo", "--role", "reader", "--password-stdin"),
        text=f"{CANARY}-reader\n",
    )
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        secrets = fill(server, client, receiver.port)

        def ends() -> bool:
            log = client.get("/v1.1/notifications?limit=100").json()["notifications"]
            moved = [d for d in log if d["status"] != "pending" or d["attempts"]]
            alarms = [d for d in log if d["kind"] == "alarm" and d["status"] == "delivered"]
            return len(moved) == len(log) and len(alarms) >= 2

        eventually(ends, why=lambda: client.get("/v1.1/notifications").text)
    token = server.token("eve", "demo", f"{CANARY}-reader")
    with server.client(token) as reader:
        paths = [
            "/v1.1/notification-methods", "/v1.1/notifications?limit=100", "/v1.1/alarms/history",
            "/v1.1/alarms", "/v2/alarms", "/v1.1/endpoints", "/v1.1/notification-addresses",
            "/metrics", "/v2/health", "/openapi.json",
        ]  # fmt: skip
        answers = {path: reader.get(path) for path in paths}
    for path, answer in answers.items():
        assert answer.status_code == 200, (path, answer.text)
        assert found_in(answer.content, secrets) == [], path
    shown = answers["/v1.1/notification-methods"].json()["notification_methods"]
    addresses = {method["name"]: method["address"] for method in shown}
    assert addresses["taken"] == f"http://127.0.0.1:{receiver.port}/…"
    assert (addresses["apprise"], addresses["mail"]) == ("json://…", "joe@mail.com")
    with Visitor(server.url) as visitor:
        assert visitor.sign_in("eve", f"{CANARY}-reader").status_code == 303
        for path in ("/console/", "/console/notifications", "/console/alarms", "/console/feed"):
            assert found_in(visitor.get(path).content, secrets) == [], path
    # What is sent says nothing of where it went.
    assert len(receiver.taken) >= 4
    assert found_in(b"".join(receiver.taken), secrets) == []
    backup = tmp_path / "backup.tar"
    assert server.command("backup", str(backup)).returncode == 0
    with tarfile.open(backup) as tar:
        assert "secrets.key" not in " ".join(tar.getnames())
    doctor = server.command("doctor")
    assert found_in((doctor.stdout + doctor.stderr).encode(), secrets) == []
    everything = [p for p in (*server.data_dir.rglob("*"), backup) if p.is_file()]
    for stopped in (False, True):
        if stopped:
            assert server.stop() == 0
        for file in everything:
            if file.exists() and "outbox" not in file.parts:
                assert found_in(file.read_bytes(), secrets) == [], file
    assert found_in(server.log().encode(), secrets) == []


def test_a_restored_backup_says_that_it_needs_the_key(
    server: RunningServer, tmp_path: Path
) -> None:
    with server.client() as client:
        fields = {"type": "WEBHOOK", "address": f"https://h.example.org/{CANARY}"}
        made = created(
            client, "/v1.1/notification-methods", "notification_method", name="n", **fields
        )
        path = f"/v1.1/notification-methods/{made['id']}"
        # Rotated by the running server.
        rotated = server.command("secrets", "rotate")
        assert re.fullmatch(r"encrypted 2 secrets with key [0-9a-f]{16} in \S+\n", rotated.stdout)
        assert client.get(path).json()["notification_method"]["address"] == fields["address"]
    backup = tmp_path / "backup.tar"
    assert server.command("backup", str(backup)).returncode == 0
    assert server.stop() == 0
    elsewhere = RunningServer(tmp_path / "elsewhere", server.environment)
    restored = elsewhere.command("restore", str(backup))
    assert "need the key with fingerprint" in restored.stderr
    elsewhere.start()
    with elsewhere.client() as client:
        shown = client.get(path).json()["notification_method"]
        assert shown["disabled"] == "the key that its secrets were encrypted with is missing"
        assert client.post(f"{path}/test").status_code == 409
        again = {**fields, "name": "again"}
        reply = client.post("/v1.1/notification-methods", json={"notification_method": again})
        assert reply.status_code == 503
        assert client.get("/v2/health").status_code == 200
    with Visitor(elsewhere.url) as visitor:
        assert visitor.sign_in("demo", PASSWORD).status_code == 303
        assert "disabled: the key" in visitor.get("/console/notifications").text
    assert elsewhere.stop() == 0
    # In place of the former data, the key is taken over.
    assert server.command("restore", str(backup), "--force").stderr == ""
    server.start()
    with server.client() as client:
        assert client.get(path).json()["notification_method"]["address"] == fields["address"]


def test_only_the_server_makes_the_key(tmp_path: Path) -> None:
    """Another user, such as root, would leave one that the server cannot read."""
    nobody = RunningServer(tmp_path / "var")
    assert nobody.command("project", "create", "shop").returncode == 0
    assert not (tmp_path / "var" / "secrets.key").exists()
