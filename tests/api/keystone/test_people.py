"""Users, projects and roles by Keystone's API: who may do what, and what nobody learns."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from conftest import PASSWORD, RunningServer, embedded_only
from eventually import eventually
from heliometer.api.keystone.catalog import stable_id
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tokens import SqlTokenStore
from old_users import OLD_PASSWORD, add_user

CALLERS = ("reader", "member", "agent", "admin", "operator")
MISSING = "f" * 32
CONSTANT = "0" * 32


@dataclass
class Town:
    """Two projects with a user of every role in each, and an operator in the first."""

    server: RunningServer
    own: str
    """The name of the callers' project, and the beginning of theirs."""
    ids: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request by a user of the first project, signed in once."""
        if who not in self.tokens:
            self.tokens[who] = self.server.token(f"{self.own}-{who}", self.own, OLD_PASSWORD)
        return httpx.request(
            method,
            f"{self.server.url}/identity/v3{path}",
            json=body,
            headers={"X-Auth-Token": self.tokens[who]},
            timeout=30,
        )


async def found(server: RunningServer, own: str) -> dict[str, str]:
    """Make them behind the server's back, as commands do; ids by a name without the town's."""
    database = await Database.open(server.settings)
    identity = BuiltinIdentity(SqlAccountStore(database), SqlTokenStore(database), server.settings)
    ids = {}
    for place in ("own", "foreign"):
        name = own if place == "own" else f"{own}-foreign"
        ids[f"{place} project"] = await identity.create_project(name)
        for role in CALLERS[:-1]:
            ids[f"{place} {role}"] = await add_user(database, f"{name}-{role}", name, role)
    ids["own operator"] = await add_user(database, f"{own}-operator", own, "reader")
    await identity.set_operator(f"{own}-operator", True)
    identity.close()
    await database.close()
    return ids


@pytest.fixture(scope="module")
def town(server: RunningServer) -> Town:
    """What tests that change nothing share."""
    return Town(server, "town", asyncio.run(found(server, "town")))


@pytest.fixture
def village(server: RunningServer, request: pytest.FixtureRequest) -> Town:
    """One for a test that changes it."""
    name = f"village{abs(hash(request.node.name)) % 10**8}"
    return Town(server, name, asyncio.run(found(server, name)))


Path = Callable[[str, str], str]
"""The path about a project and a user, by their ids."""

ROLE = stable_id("role", "reader")
OPERATIONS: dict[str, tuple[str, Path, Any]] = {
    "show project": ("GET", lambda p, u: f"/projects/{p}", None),
    "disable project": ("PATCH", lambda p, u: f"/projects/{p}", {"project": {"enabled": False}}),
    "delete project": ("DELETE", lambda p, u: f"/projects/{p}", None),
    "show user": ("GET", lambda p, u: f"/users/{u}", None),
    "disable user": ("PATCH", lambda p, u: f"/users/{u}", {"user": {"enabled": False}}),
    "set password": ("PATCH", lambda p, u: f"/users/{u}", {"user": {"password": "some words"}}),
    "delete user": ("DELETE", lambda p, u: f"/users/{u}", None),
    "projects of user": ("GET", lambda p, u: f"/users/{u}/projects", None),
    "roles": ("GET", lambda p, u: f"/projects/{p}/users/{u}/roles", None),
    "check role": ("HEAD", lambda p, u: f"/projects/{p}/users/{u}/roles/{ROLE}", None),
    "give role": ("PUT", lambda p, u: f"/projects/{p}/users/{u}/roles/{ROLE}", None),
    "take role": ("DELETE", lambda p, u: f"/projects/{p}/users/{u}/roles/{ROLE}", None),
    "assignments": ("GET", lambda p, u: f"/role_assignments?scope.project.id={p}", None),
    "assignments of user": ("GET", lambda p, u: f"/role_assignments?user.id={u}", None),
}


@pytest.mark.parametrize("who", [c for c in CALLERS if c != "operator"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_foreign_is_as_if_it_did_not_exist(town: Town, who: str, operation: str) -> None:
    method, path, body = OPERATIONS[operation]
    foreign = (town.ids["foreign project"], town.ids["foreign reader"])
    mixed = [(town.ids["own project"], town.ids["foreign reader"])]
    if "project" in operation and "user" not in operation:
        mixed = []
    for project, user in [foreign, *mixed]:
        not_there = MISSING if project == town.ids["foreign project"] else project
        one = town.call(who, method, path(project, user), body)
        other = town.call(who, method, path(not_there, MISSING), body)
        assert one.status_code == other.status_code
        known = one.text.replace(project, CONSTANT).replace(user, CONSTANT)
        unknown = other.text.replace(not_there, CONSTANT).replace(MISSING, CONSTANT)
        assert known == unknown
        if operation not in ("assignments", "assignments of user") or project != not_there:
            assert one.status_code in (403, 404), operation
    for project, user in (foreign, (town.ids["own project"], town.ids["own member"])):
        assert town.call("operator", "GET", f"/projects/{project}").status_code == 200
        shown = town.call("operator", "GET", f"/users/{user}").json()["user"]
        assert shown["enabled"], "nothing was changed"


EXPECTED = {
    # of another member of one's own project:   reader, member, agent, admin
    "show project": (200, 200, 200, 200),
    "disable project": (403, 403, 403, 403),
    "delete project": (403, 403, 403, 403),
    "show user": (404, 404, 404, 200),
    "disable user": (404, 404, 404, 403),
    "set password": (404, 404, 404, 403),
    "delete user": (404, 404, 404, 403),
    "projects of user": (404, 404, 404, 200),
    "roles": (403, 403, 403, 200),
    "check role": (403, 403, 403, 404),
    "assignments": (403, 403, 403, 200),
    "assignments of user": (404, 404, 404, 200),
}


@pytest.mark.parametrize("operation", EXPECTED)
def test_what_each_role_may_in_its_own_project(town: Town, operation: str) -> None:
    method, path, body = OPERATIONS[operation]
    target = {"reader": "agent", "member": "agent", "agent": "member", "admin": "member"}
    for who, status in zip(CALLERS, EXPECTED[operation], strict=False):
        user = town.ids[f"own {target[who]}"]
        reply = town.call(who, method, path(town.ids["own project"], user), body)
        assert reply.status_code == status, who


@pytest.mark.parametrize("who", [c for c in CALLERS if c != "operator"])
def test_only_operators_create_and_see_all(town: Town, who: str) -> None:
    new = {"user": {"name": f"new-{who}", "password": "some words"}}
    assert town.call(who, "POST", "/users", new).status_code == 403
    assert town.call(who, "POST", "/projects", {"project": {"name": "x"}}).status_code == 403
    projects = town.call(who, "GET", "/projects").json()["projects"]
    assert [p["id"] for p in projects] == [town.ids["own project"]]
    users = town.call(who, "GET", "/users")
    if who == "admin":
        mine = {town.ids[name] for name in town.ids if name.startswith("own ")}
        assert {u["id"] for u in users.json()["users"]} == mine - {town.ids["own project"]}
    else:
        assert users.status_code == 403


def test_no_token_no_answer(town: Town) -> None:
    for method, path, body in OPERATIONS.values():
        url = f"{town.server.url}/identity/v3{path(town.ids['own project'], MISSING)}"
        reply = httpx.request(method, url, json=body)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Keystone")


@embedded_only
def test_an_admin_changes_roles_of_members_but_not_beyond(village: Town) -> None:
    project, member = village.ids["own project"], village.ids["own member"]

    def give(user: str, role: str) -> int:
        path = f"/projects/{project}/users/{user}/roles/{stable_id('role', role)}"
        return village.call("admin", "PUT", path).status_code

    assert village.call("member", "GET", "/auth/projects").status_code == 200
    assert give(member, "reader") == 204
    assert give(member, "agent") == 403, "an agent posts for all projects"
    assert give(village.ids["own admin"], "reader") == 409, "not one's own"
    assert give(village.ids["foreign member"], "reader") == 404, "not without consent"
    assert village.call("member", "GET", f"/projects/{project}").status_code == 200
    path = f"/projects/{project}/users/{member}/roles/"
    assert village.call("admin", "DELETE", path + stable_id("role", "admin")).status_code == 404
    assert village.call("admin", "DELETE", path + ROLE).status_code == 204
    assert village.call("admin", "DELETE", path + ROLE).status_code == 404
    assert village.call("member", "GET", f"/projects/{project}").status_code == 401


def test_an_admin_may_not_post_for_other_projects(town: Town) -> None:
    def post(who: str) -> int:
        town.call(who, "GET", "/auth/projects")
        headers = {"X-Auth-Token": town.tokens[who], "X-Tenant-Id": town.ids["foreign project"]}
        body = {"namespace": "a", "value": 1}
        url = f"{town.server.url}/v1.1/metrics"
        return httpx.post(url, json=body, headers=headers).status_code

    assert [post(who) for who in ("reader", "member", "admin", "agent")] == [403, 403, 403, 204]


@embedded_only
def test_an_operator_makes_a_user_a_project_and_ends_both(village: Town) -> None:
    name = f"{village.own}-new"
    made = village.call("operator", "POST", "/projects", {"project": {"name": name}})
    assert made.status_code == 201
    project = made.json()["project"]["id"]
    weak = {"user": {"name": name, "password": "password"}}
    assert village.call("operator", "POST", "/users", weak).status_code == 400
    new = {"user": {"name": name, "password": PASSWORD}}
    user = village.call("operator", "POST", "/users", new).json()["user"]["id"]
    assert village.call("operator", "POST", "/users", new).status_code == 409
    path = f"/projects/{project}/users/{user}/roles/{stable_id('role', 'member')}"
    assert village.call("operator", "PUT", path).status_code == 204
    assert village.call("operator", "HEAD", path).status_code == 204

    def works(token: str) -> bool:
        headers = {"X-Auth-Token": token}
        return httpx.get(f"{village.server.url}/v1.1/alarms", headers=headers).status_code == 200

    def sign_in() -> int:
        body = {"auth": {"tenantName": name, "passwordCredentials": {
            "username": name, "password": PASSWORD}}}  # fmt: skip
        return httpx.post(f"{village.server.url}/identity/v2.0/tokens", json=body).status_code

    for what, path in (("project", f"/projects/{project}"), ("user", f"/users/{user}")):
        token = village.server.token(name, name)
        assert works(token)
        for enabled in (False, True):
            reply = village.call("operator", "PATCH", path, {what: {"enabled": enabled}})
            assert reply.json()[what]["enabled"] is enabled
            assert not works(token), "it stays void"
            assert (sign_in() == 200) is enabled
    token = village.server.token(name, name)
    assert village.call("operator", "DELETE", f"/projects/{project}").status_code == 204
    assert not works(token)
    assert village.call("operator", "GET", f"/projects/{project}").status_code == 404
    assert village.call("operator", "DELETE", f"/users/{user}").status_code == 204
    assert sign_in() == 401
    mine = village.ids["own operator"]
    assert village.call("operator", "DELETE", f"/users/{mine}").status_code == 409
    own = village.ids["own project"]
    assert village.call("operator", "DELETE", f"/projects/{own}").status_code == 409


@pytest.fixture
def shop(server: RunningServer) -> RunningServer:
    """A project with an alarm and an endpoint, as a member sees it."""
    tenant = server.tenant("member")
    with tenant.client() as client:
        alarm = {"name": "hot", "expression": "max(room{metric_name=temperature}) > 30"}
        assert client.post("/v1.1/alarms", json={"alarm": alarm}).status_code == 201
        assert client.post("/v1.1/endpoints").status_code == 201
    return tenant


@embedded_only
def test_commands_say_what_would_go_and_do_it_only_when_told(shop: RunningServer) -> None:
    name = shop.project
    delete = ("project", "delete", name)
    for dry in (shop.command(*delete, "--dry-run"), shop.command(*delete)):
        assert "alarms: 1\n" in dry.stdout
        assert "endpoints: 1\n" in dry.stdout
        assert "metrics.retention_days" in dry.stdout
    assert dry.returncode == 2
    assert "--yes" in dry.stderr
    with shop.client() as client:
        assert client.get("/v1.1/alarms").status_code == 200
    assert shop.command("project", "disable", name).returncode == 0
    shop.command("project", "enable", name)
    assert shop.command(*delete, "--yes").returncode == 0
    assert shop.command(*delete, "--yes").returncode == 1
    listed = shop.command("project", "list").stdout
    assert name not in listed
    gone = shop.command("user", "delete", shop.username, "--yes")
    assert "memberships: 0\n" in gone.stdout
    assert shop.username not in shop.command("user", "list").stdout


@embedded_only
def test_a_role_that_a_command_takes_away(shop: RunningServer) -> None:
    shop.token()
    assert shop.command("user", "revoke", shop.username, "--project", shop.project).returncode == 0
    again = shop.command("user", "revoke", shop.username, "--project", shop.project)
    assert (again.returncode, "has no role" in again.stderr) == (1, True)
    body = {"auth": {"tenantName": shop.project, "passwordCredentials": {
        "username": shop.username, "password": PASSWORD}}}  # fmt: skip
    reply = httpx.post(f"{shop.url}/identity/v2.0/tokens", json=body)
    assert reply.status_code == 401


@embedded_only
def test_operators_are_named_by_command(server: RunningServer) -> None:
    tenant = server.tenant("admin")
    assert tenant.username not in server.command("operator", "list").stdout.split()
    assert "demo" in server.command("operator", "list").stdout.split(), "who made the first start"

    def creates(name: str) -> int:
        headers = {"X-Auth-Token": tenant.token()}
        url = f"{tenant.url}/identity/v3/projects"
        return httpx.post(url, json={"project": {"name": name}}, headers=headers).status_code

    assert creates(f"{tenant.project}-1") == 403
    assert server.command("operator", "add", tenant.username).returncode == 0
    assert creates(f"{tenant.project}-1") == 201
    assert server.command("operator", "remove", tenant.username).returncode == 0
    assert creates(f"{tenant.project}-2") == 403
    eventually(lambda: "remove operator" in _audited(server))


def _audited(server: RunningServer) -> str:
    async def read() -> str:
        from sqlalchemy import text

        database = await Database.open(server.settings)
        async with database.read() as connection:
            rows = (await connection.execute(text("SELECT action FROM audit"))).scalars().all()
        await database.close()
        return " ".join(rows)

    return asyncio.run(read())
