"""The audit trail: complete, readable by whom it concerns, and by nobody else."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.people import USERS, People
from conftest import PASSWORD, RunningServer
from heliometer.identity.audit import AuditFilter
from heliometer.storage.sql.audit import SqlAuditStore
from heliometer.storage.sql.database import Database


@pytest.fixture
def tenant(server: RunningServer) -> RunningServer:
    """An admin of a new project."""
    return server.tenant("admin")


@pytest.fixture
def client(tenant: RunningServer) -> Iterator[httpx.Client]:
    """The admin's."""
    with tenant.client() as signed_in:
        yield signed_in


def actions(client: httpx.Client, **query: Any) -> list[str]:
    reply = client.get("/v1.1/audit", params=query)
    assert reply.status_code == 200, reply.text
    return [entry["action"] for entry in reversed(reply.json()["audit"])]


def ok(reply: httpx.Response) -> Any:
    assert reply.status_code < 300, reply.text
    return reply.json() if reply.content else None


def test_every_change_in_every_dialect_is_there(
    tenant: RunningServer, client: httpx.Client
) -> None:
    seen = actions(client, actor=tenant.username)

    def changed(*added: str) -> None:
        nonlocal seen
        now = actions(client, actor=tenant.username)
        assert now[len(seen) :] == list(added)
        seen = now

    alarm = {"name": "a", "expression": "max(room{metric_name=t}) > 30"}
    made = ok(client.post("/v1.1/alarms", json={"alarm": alarm}))["alarm"]["id"]
    changed("create alarm")
    ok(client.patch(f"/v1.1/alarms/{made}", json={"alarm": {"enabled": False}}))
    ok(client.put(f"/v1.1/alarms/{made}", json={"alarm": {**alarm, "name": "b"}}))
    changed("change alarm", "change alarm")
    ok(client.put(f"/v2/alarms/{made}/state", content=b'"alarm"'))
    changed("set alarm state")
    ok(client.delete(f"/v2/alarms/{made}"))
    changed("delete alarm")
    method = {"name": "joe", "type": "WEBHOOK", "address": "https://example.com/"}
    posted = ok(client.post("/v1.1/notification-methods", json={"notification_method": method}))
    ok(client.delete(f"/v1.1/notification-methods/{posted['notification_method']['id']}"))
    changed("create notification method", "delete notification method")
    address = {"type": "EMAIL", "address": f"{uuid4().hex}@example.com"}
    posted = ok(client.post("/v1.1/notification-addresses", json={"notification_address": address}))
    ok(client.delete(f"/v1.1/notification-addresses/{posted['notification_address']['id']}"))
    changed("create notification address", "delete notification address")
    endpoint = ok(client.post("/v1.1/endpoints"))["endpoint"]["id"]
    ok(client.post(f"/v1.1/endpoints/{endpoint}/reset-password"))
    subscription = {"endpoint_id": endpoint, "namespace": "room", "dimensions": {"a": "b"}}
    ok(client.post("/v1.1/subscriptions", json={"subscription": subscription}))
    listed = ok(client.get("/v1.1/subscriptions"))["subscriptions"]
    ok(client.delete(f"/v1.1/subscriptions/{listed[0]['id']}"))
    ok(client.delete(f"/v1.1/endpoints/{endpoint}"))
    changed("create endpoint", "reset endpoint password", "create subscription",
            "delete subscription", "delete endpoint")  # fmt: skip
    ok(client.post("/v1.1/metering", params={"monitoring_level": "premium"}))
    changed("set monitoring level")


def test_reading_changes_nothing_and_pages_follow_each_other(
    tenant: RunningServer, client: httpx.Client
) -> None:
    for level in ("premium", "basic", "premium"):
        ok(client.post("/v1.1/metering", params={"monitoring_level": level}))
    every = ok(client.get("/v1.1/audit"))["audit"]
    assert {entry["project_id"] for entry in every} == {every[0]["project_id"]}
    assert [entry["details"] for entry in every[:3]] == ["premium", "basic", "premium"]
    url, paged = "/v1.1/audit?limit=2", []
    while url:
        page = ok(client.get(url))
        paged += page["audit"]
        url = page["links"][0]["href"] if page["links"] else ""
    assert paged == every
    newest = every[0]["timestamp"]
    assert actions(client, start_time=newest, action="set monitoring level")
    assert actions(client, end_time="2020-01-01T00:00Z") == []
    for wrong in ("limit=0", "limit=1001", "marker=x", "start_time=yesterday", "actor=a&actor=b"):
        assert client.get(f"/v1.1/audit?{wrong}").status_code == 400


@pytest.mark.parametrize("who", USERS)
def test_only_admins_read_it_and_only_their_own(people: People, who: str) -> None:
    with people.client(who) as client:
        reply = client.get("/v1.1/audit")
        if who != "admin":
            assert reply.status_code == 403
            return
        shop, stock = people.projects["shop"], people.projects["stock"]
        assert {entry["project_id"] for entry in ok(reply)["audit"]} == {shop}
        foreign = client.get("/v1.1/audit", params={"project_id": stock})
        missing = client.get("/v1.1/audit", params={"project_id": "f" * 32})
        assert foreign.status_code == missing.status_code == 404
        bodies = [
            r.text.replace(i, "").replace(r.headers["x-compute-request-id"], "")
            if "x-compute-request-id" in r.headers
            else r.json()
            for r, i in ((foreign, stock), (missing, "f" * 32))
        ]
        if isinstance(bodies[0], str):
            assert bodies[0] == bodies[1]


def test_an_operator_reads_everything(server: RunningServer, tenant: RunningServer) -> None:
    with server.client() as client:
        found = ok(client.get("/v1.1/audit", params={"action": "create user"}))["audit"]
        assert f"{tenant.username}: admin" in [entry["details"] for entry in found]
        page = client.get("/v1.1/audit", params={"project_id": found[0]["project_id"]})
        assert {e["project_id"] for e in ok(page)["audit"]} == {found[0]["project_id"]}


def test_the_command_on_the_data_and_at_a_server(tenant: RunningServer) -> None:
    local = tenant.command("audit", "--action", "create user", "--since", "1h", "--json")
    assert f"{tenant.username}: admin" in [e["details"] for e in json.loads(local.stdout)]
    assert "WHEN" in tenant.command("audit").stdout
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
    given = {"HELIOMETER_URL": tenant.url, "OS_USERNAME": tenant.username,
             "OS_PROJECT_NAME": tenant.project, "OS_PASSWORD": PASSWORD}  # fmt: skip
    remote = subprocess.run(
        [sys.executable, "-m", "heliometer", "audit", "--json"],
        capture_output=True, text=True, timeout=60, env={**clean, **given},
    )  # fmt: skip
    assert remote.returncode == 0, remote.stderr
    found = json.loads(remote.stdout)
    assert [e["action"] for e in found] == ["create user", "create project"]


def test_old_entries_are_forgotten(tenant: RunningServer) -> None:
    async def forget() -> tuple[int, list[str]]:
        database = await Database.open(tenant.settings)
        store = SqlAuditStore(database)
        wanted = AuditFilter(action="create user")
        found = await store.find(wanted, None, 1000)
        mine = next(e for e in found if e.details.startswith(tenant.username))
        gone = await store.forget(1, 10)
        kept = [e.details for e in await store.find(wanted, mine.id + 1, 1)]
        await database.close()
        return gone, kept

    gone, kept = asyncio.run(forget())
    assert gone == 0
    assert kept == [f"{tenant.username}: admin"]
