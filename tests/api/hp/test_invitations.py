"""Invitations: the way into a project for who agrees to come."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.people import USERS, People
from conftest import PASSWORD, RunningServer
from console.visitor import Visitor

PATH = "/v1.1/invitations"


@pytest.fixture
def tenant(server: RunningServer) -> RunningServer:
    """An admin of a new project."""
    return server.tenant("admin")


@pytest.fixture
def client(tenant: RunningServer) -> Iterator[httpx.Client]:
    """The admin's."""
    with tenant.client() as signed_in:
        yield signed_in


def invite(client: httpx.Client, role: str = "member") -> dict[str, Any]:
    reply = client.post(PATH, json={"invitation": {"role": role}})
    assert reply.status_code == 201, reply.text
    invitation: dict[str, Any] = reply.json()["invitation"]
    return invitation


def accept(server: RunningServer, code: str, **more: Any) -> httpx.Response:
    token = {"X-Auth-Token": more.pop("token")} if "token" in more else {}
    url = f"{server.url}{PATH}/accept"
    return httpx.post(url, json={"code": code, **more}, headers=token, timeout=30)


def new_user(password: str = PASSWORD) -> dict[str, Any]:
    return {"user": {"name": f"new-{uuid4().hex[:8]}", "password": password}}


def test_a_new_user_joins_once(tenant: RunningServer, client: httpx.Client) -> None:
    made = invite(client)
    assert made["url"].endswith(f"/console/invitation?code={made['code']}")
    listed = client.get(PATH).json()["invitations"]
    assert [i["id"] for i in listed] == [made["id"]]
    assert made["code"] not in str(listed)
    user = new_user()
    assert accept(tenant, made["code"], **new_user("password")).status_code == 422
    reply = accept(tenant, made["code"], **user)
    assert (reply.status_code, reply.json()["role"]) == (200, "member")
    token = tenant.token(user["user"]["name"], tenant.project)
    mine = httpx.get(f"{tenant.url}/v1.1/alarms", headers={"X-Auth-Token": token})
    assert mine.status_code == 200
    assert client.get(PATH).json()["invitations"] == []
    assert accept(tenant, made["code"], **new_user()).status_code == 404
    actions = [e["action"] for e in client.get("/v1.1/audit").json()["audit"]]
    assert actions[:2] == ["accept invitation", "invite"]


def test_a_user_joins_another_project(
    server: RunningServer, tenant: RunningServer, client: httpx.Client
) -> None:
    other = server.tenant("member")
    code = invite(client, "reader")["code"]
    assert accept(tenant, code).status_code == 401, "neither a token nor a new user"
    assert accept(tenant, code, token=client.headers["X-Auth-Token"]).status_code == 409
    assert accept(tenant, code, token=other.token()).status_code == 200
    server.token(other.username, tenant.project)


def test_of_many_who_have_the_code_one_gets_in(tenant: RunningServer, client: httpx.Client) -> None:
    code = invite(client)["code"]
    with ThreadPoolExecutor(6) as many:
        replies = many.map(lambda _: accept(tenant, code, **new_user()).status_code, range(6))
        assert sorted(replies) == [200] + [404] * 5


def test_withdrawn_unknown_and_foreign_are_alike(
    server: RunningServer, tenant: RunningServer, client: httpx.Client
) -> None:
    made = invite(client)
    with server.tenant("admin").client() as foreign:
        one = foreign.delete(f"{PATH}/{made['id']}")
        other = foreign.delete(f"{PATH}/{'f' * 32}")
    assert one.status_code == other.status_code == 404
    assert client.delete(f"{PATH}/{made['id']}").status_code == 204
    assert client.delete(f"{PATH}/{made['id']}").status_code == 404
    for code in (made["code"], "A" * 43, "", "\u0000", "x" * 5000):
        assert accept(tenant, code, **new_user()).status_code == 404


def test_nobody_is_invited_beyond_the_project(client: httpx.Client) -> None:
    for role, status in (("agent", 403), ("king", 422)):
        assert client.post(PATH, json={"invitation": {"role": role}}).status_code == status


@pytest.mark.parametrize("who", [user for user in USERS if user != "admin"])
def test_only_admins_invite(people: People, who: str) -> None:
    with people.client(who) as client:
        assert client.get(PATH).status_code == 403
        assert client.post(PATH, json={"invitation": {}}).status_code == 403
        assert client.delete(f"{PATH}/{'f' * 32}").status_code == 403


def test_the_console(tenant: RunningServer) -> None:
    name = f"new-{uuid4().hex[:8]}"
    with Visitor(tenant.url) as admin, Visitor(tenant.url) as guest:
        admin.sign_in(tenant.username, PASSWORD)
        shown = admin.send("/console/people/invitations", role="reader").text
        code = shown.partition("invitation?code=")[2][:43]
        listed = admin.get("/console/people/members")
        assert (listed.status_code, code in listed.text) == (200, False)
        page = f"/console/invitation?code={code}"
        assert tenant.project in guest.get(page).text
        fields = {"code": code, "user": name, "is_new": "1"}
        weak = guest.post("/console/invitation", {**fields, "password": "password"})
        assert (weak.status_code, "leaked" in weak.text) == (422, True)
        wrong = guest.post(
            "/console/invitation", {"code": code, "user": tenant.username, "password": "wrong"}
        )
        assert wrong.status_code == 401
        joined = guest.post("/console/invitation", {**fields, "password": PASSWORD})
        assert (joined.status_code, joined.headers["location"]) == (303, "/console")
        assert guest.heading() == tenant.project
        assert guest.get(page).status_code == 404
