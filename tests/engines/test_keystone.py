"""The service with the users and projects of a real Keystone."""

import re
import shutil
import signal
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from keystoneauth1 import session
from keystoneauth1.identity import v2, v3

from conftest import RunningServer
from eventually import eventually
from keystone_server import PROJECT_PASSWORD, RunningKeystone

pytestmark = pytest.mark.engines

DEFAULT: dict[str, Any] = {"user_domain_name": "Default", "project_domain_name": "Default"}
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Reading the system's authorities for each request would take longer than the request."""


@dataclass
class Cloud:
    """A Keystone, and a server that has no users of its own."""

    keystone: RunningKeystone
    server: RunningServer
    ids: dict[str, str]

    @property
    def url(self) -> str:
        """The server's."""
        return self.server.url

    def token(self, user: str, scope: Any = "shop", **more: Any) -> str:
        """Straight from Keystone."""
        return self.keystone.sign_in(user, scope=scope, **more)

    def get(self, token: str, path: str = "/v1.1/metering", **more: Any) -> httpx.Response:
        """Ask the server."""
        return httpx.get(
            self.url + path, headers={"X-Auth-Token": token}, timeout=40, verify=NO_TLS, **more
        )

    def post(self, token: str, namespace: str = "shop", tenant: str = "") -> httpx.Response:
        """One measurement."""
        headers = {"X-Auth-Token": token} | ({"X-Tenant-Id": tenant} if tenant else {})
        metric = {
            "namespace": namespace, "dimensions": {"metric_name": "sales"},
            "timestamp": int(time.time()), "value": 1.0,
        }  # fmt: skip
        return httpx.post(
            f"{self.url}/v1.1/metrics", json=metric, headers=headers, timeout=40, verify=NO_TLS
        )


@dataclass
class Filled:
    """A Keystone that was made and filled, to be copied."""

    folder: Path
    ids: dict[str, str]

    def cloud(self, folder: Path) -> Cloud:
        """A copy of it that runs, and a server that uses it."""
        shutil.copytree(self.folder, folder / "keystone")
        keystone = RunningKeystone(folder / "keystone").start()
        try:
            server = RunningServer(folder / "var", keystone.settings()).start()
        except BaseException:
            keystone.stop()
            raise
        return Cloud(keystone, server, dict(self.ids))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    folder = tmp_path_factory.mktemp("filled") / "keystone"
    keystone = RunningKeystone(folder).start()
    try:
        ids = keystone.fill()
        for project in ("shop", "stock"):
            ids[project] = keystone.make("project", project)
        # In Keystone manager implies member, and that reader; this one stands alone.
        keystone.make("role", "cleaner")
        for role in ("reader", "member", "admin", "manager", "cleaner"):
            ids[role] = keystone.user(f"a-{role}", (ids["shop"], role))
        ids["agent"] = keystone.user("an-agent", (ids["service"], "service"))
    finally:
        keystone.stop()
    return Filled(folder, ids)


@pytest.fixture(scope="module")
def cloud(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    made = filled.cloud(tmp_path_factory.mktemp("cloud"))
    yield made
    made.keystone.stop()
    assert made.server.stop() == 0


@pytest.fixture
def own_cloud(filled: Filled, tmp_path: Path) -> Iterator[Cloud]:
    """One that a test may break."""
    made = filled.cloud(tmp_path)
    yield made
    made.keystone.stop()
    assert made.server.stop() == 0


@pytest.mark.parametrize(
    ("role", "may"),
    [("reader", (200, 403)), ("member", (200, 204)), ("admin", (200, 204)),
     ("manager", (200, 204)), ("cleaner", (403, 403))],
)  # fmt: skip
def test_roles_are_what_the_setting_says(cloud: Cloud, role: str, may: tuple[int, int]) -> None:
    token = cloud.token(f"a-{role}")
    assert (cloud.get(token).status_code, cloud.post(token).status_code) == may


def test_who_has_no_role_that_counts_is_told_in_the_dialects_forms(cloud: Cloud) -> None:
    token = cloud.token("a-cleaner")
    hp = cloud.get(token)
    assert hp.status_code == 403
    assert hp.json()["forbidden"]["message"] == "None of your roles in project shop counts here."
    telemetry = cloud.get(token, "/v2/meters")
    assert telemetry.status_code == 403
    assert telemetry.json()["error"]["code"] == 403


def test_an_unscoped_token_is_told_to_name_a_project(cloud: Cloud) -> None:
    answer = cloud.get(cloud.token("a-member", "unscoped"))
    assert answer.status_code == 403
    assert "not scoped to a project" in answer.text


@pytest.mark.parametrize(
    ("token", "status"),
    [("x", 401), ("gAAAAA" + "x" * 200, 401), ("x" * 8192, 401), ("x" * 8193, 401),
     ("x" * 20_000, 401), ("a b", 401), ("x\ty", 401), ("../../users", 401)],
)  # fmt: skip
def test_garbage_is_no_token(cloud: Cloud, token: str, status: int) -> None:
    for path in ("/v1.1/metering", "/v2/meters", "/v1.0/alarms"):
        assert cloud.get(token, path).status_code == status


def test_a_domains_and_the_systems_tokens_are_not_a_projects(cloud: Cloud) -> None:
    keystone = cloud.keystone
    user = keystone.user("a-caretaker")
    keystone.call("PUT", f"/domains/default/users/{user}/roles/{keystone.role('admin')}")
    keystone.call("PUT", f"/system/users/{user}/roles/{keystone.role('admin')}")
    for scope in ({"domain": {"id": "default"}}, {"system": {"all": True}}):
        assert cloud.get(cloud.token("a-caretaker", scope)).status_code == 403


def test_stock_clients_find_the_service_in_keystones_catalog(cloud: Cloud) -> None:
    keystone = cloud.keystone
    for type_, path in (("hpext:monitoring", "/v1.1"), ("metering", "")):
        service = keystone.make("service", f"heliometer {type_}", type=type_)
        endpoint = {"service_id": service, "interface": "public", "url": cloud.url + path}
        keystone.call("POST", "/endpoints", {"endpoint": endpoint})
    auth = v3.Password(
        keystone.url, username="a-member", password=PROJECT_PASSWORD, project_name="shop", **DEFAULT
    )
    client = session.Session(auth)
    hp = client.get("/metering", endpoint_filter={"service_type": "hpext:monitoring"})
    assert hp.json() == {"setting": "monitoring_level", "value": "basic"}
    meters = client.get("/v2/meters", endpoint_filter={"service_type": "metering"}).json()
    assert isinstance(meters, list)  # of what other tests posted


def test_stock_clients_sign_in_here_too(cloud: Cloud) -> None:
    who: dict[str, Any] = {"username": "a-member", "password": PROJECT_PASSWORD}
    for auth in (
        v3.Password(f"{cloud.url}/identity/v3", project_name="shop", **who, **DEFAULT),
        v3.Password(f"{cloud.url}/identity/v3", project_id=cloud.ids["shop"],
                    user_id=cloud.ids["member"], password=PROJECT_PASSWORD),
        v2.Password(f"{cloud.url}/identity/v2.0", tenant_name="shop", **who),
        v2.Password(f"{cloud.url}/identity/v2.0", tenant_id=cloud.ids["shop"], **who),
    ):  # fmt: skip
        client = session.Session(auth)
        endpoint = client.get_endpoint(service_type="hpext:monitoring")
        assert endpoint == f"{cloud.url}/v1.1"
        assert client.get(f"{endpoint}/metering").status_code == 200
        assert auth.get_access(client).project_id == cloud.ids["shop"]
    unscoped = v3.Password(
        f"{cloud.url}/identity/v3", user_domain_name="Default", unscoped=True, **who
    )
    token = session.Session(unscoped).get_token()
    scoped = v3.Token(f"{cloud.url}/identity/v3", str(token), project_id=cloud.ids["shop"])
    client = session.Session(scoped)
    listed = client.get(f"{cloud.url}/identity/v3/auth/projects").json()["projects"]
    assert [project["name"] for project in listed] == ["shop"]
    # What ends here is ended at once, here and there.
    token = client.get_token()
    assert cloud.get(str(token)).status_code == 200
    client.delete(f"{cloud.url}/identity/v3/auth/tokens", headers={"X-Subject-Token": token})
    assert cloud.get(str(token)).status_code == 401


def test_application_credentials(cloud: Cloud) -> None:
    token = cloud.token("a-member")
    url = f"{cloud.keystone.url}/users/{cloud.ids['member']}/application_credentials"

    def credential(name: str, **more: Any) -> v3.ApplicationCredential:
        document = {"application_credential": {"name": name, **more}}
        made = httpx.post(url, json=document, headers={"X-Auth-Token": token}, timeout=30)
        assert made.status_code == 201, made.text
        found = made.json()["application_credential"]
        return v3.ApplicationCredential(
            f"{cloud.url}/identity/v3",
            application_credential_id=found["id"],
            application_credential_secret=found["secret"],
        )

    client = session.Session(credential("all"))
    assert client.get(f"{cloud.url}/v1.1/metering").status_code == 200
    # What is for another service alone must be good for nothing here.
    rule = {"service": "compute", "method": "GET", "path": "/v2.1/servers"}
    narrow = session.Session(credential("compute", access_rules=[rule])).get_token()
    assert cloud.get(str(narrow)).status_code == 401


def test_a_wrong_password_is_slowed(own_cloud: Cloud) -> None:
    def sign_in(password: str, project: str = "shop") -> httpx.Response:
        user = {"name": "a-member", "domain": {"name": "Default"}, "password": password}
        body = {"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": project, "domain": {"id": "default"}}},
        }}  # fmt: skip
        return httpx.post(f"{own_cloud.url}/identity/v3/auth/tokens", json=body, timeout=30)

    # Right passwords with wrong projects are no guesses.
    assert {sign_in(PROJECT_PASSWORD, "nowhere").status_code for _ in range(6)} == {401}
    assert sign_in(PROJECT_PASSWORD).status_code == 201
    assert [sign_in("wrong").status_code for _ in range(6)] == [401] * 5 + [429]
    assert "retry-after" in sign_in(PROJECT_PASSWORD).headers


def test_what_keystone_ends_ends_here_within_a_minute(own_cloud: Cloud) -> None:
    keystone, ids = own_cloud.keystone, own_cloud.ids
    tokens = {name: own_cloud.token(name) for name in ("a-member", "a-reader", "a-manager")}
    own = own_cloud.token("a-admin")
    assert {own_cloud.get(token).status_code for token in (*tokens.values(), own)} == {200}
    keystone.call("PATCH", f"/users/{ids['member']}", {"user": {"enabled": False}})
    keystone.grant(ids["reader"], ids["shop"], "reader", "DELETE")
    keystone.call("PATCH", f"/users/{ids['manager']}", {"user": {"password": "another"}})
    ended = httpx.delete(
        f"{keystone.url}/auth/tokens", headers={"X-Auth-Token": own, "X-Subject-Token": own}
    )
    assert ended.status_code == 204
    eventually(lambda: {own_cloud.get(t).status_code for t in (*tokens.values(), own)} == {401}, 45)


def test_nobody_is_let_in_while_keystone_is_away(own_cloud: Cloud) -> None:
    keystone = own_cloud.keystone
    known, unknown, later = (own_cloud.token("a-member") for _ in range(3))
    assert own_cloud.get(known).status_code == 200

    def failing() -> bool:
        health = own_cloud.get("", "/v2/health")
        return health.status_code == 503 and "identity" in health.text

    keystone.send(signal.SIGSTOP)
    began = time.monotonic()
    answer = own_cloud.get(unknown)
    assert time.monotonic() - began < 12
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["fault"]["detail"]["errorcode"] == "unavailable"
    assert own_cloud.get(known).status_code == 200  # checked a moment ago
    eventually(failing)
    telemetry = own_cloud.get(later, "/v2/meters")
    assert (telemetry.status_code, telemetry.json()["error"]["code"]) == (503, 503)
    keystone.send(signal.SIGCONT)
    eventually(lambda: own_cloud.get(unknown).status_code == 200)
    eventually(lambda: not failing())

    keystone.stop()
    began = time.monotonic()
    assert own_cloud.get(later).status_code == 503
    assert own_cloud.get("garbage").status_code == 503
    pushed = httpx.post(
        f"{own_cloud.url}/write?db=x", content="m v=1", auth=("a-member", PROJECT_PASSWORD)
    )
    assert pushed.status_code == 503
    assert time.monotonic() - began < 5
    # What was known is not known for ever.
    eventually(lambda: own_cloud.get(known).status_code == 503, 40)
    keystone.start()
    eventually(lambda: own_cloud.get(later).status_code == 200)
    assert own_cloud.get(known).status_code == 200
    assert own_cloud.get("garbage").status_code == 401


def test_it_starts_without_keystone_and_needs_no_hand_when_that_comes(own_cloud: Cloud) -> None:
    token = own_cloud.token("a-member")
    own_cloud.server.stop()
    own_cloud.keystone.stop()
    own_cloud.server.start()
    assert own_cloud.get(token).status_code == 503
    own_cloud.keystone.start()
    eventually(lambda: own_cloud.get(token).status_code == 200)


def test_a_service_user_that_is_refused_and_let_in_again(own_cloud: Cloud) -> None:
    keystone, user = own_cloud.keystone, own_cloud.ids["heliometer"]
    assert own_cloud.get(own_cloud.token("a-member")).status_code == 200
    keystone.call("PATCH", f"/users/{user}", {"user": {"password": "changed"}})
    token = own_cloud.token("a-reader")
    assert own_cloud.get(token).status_code == 503
    doctor = own_cloud.server.command("doctor")  # with the wrong settings altogether
    assert "users and projects are in the resource database" in doctor.stdout
    keystone.call("PATCH", f"/users/{user}", {"user": {"password": PROJECT_PASSWORD}})
    eventually(lambda: own_cloud.get(token).status_code == 200)


def test_projects_of_the_same_name_in_two_domains(cloud: Cloud) -> None:
    keystone = cloud.keystone
    acme = keystone.make("domain", "acme")
    shop = keystone.make("project", "shop", domain_id=acme)
    keystone.user("anna", (shop, "member"), domain=acme)
    there = cloud.token("anna", domain="acme")
    here = cloud.token("a-member")
    assert (
        cloud.post(there, "clash").status_code == cloud.post(here, "clash-too").status_code == 204
    )
    series = cloud.get(there, "/v1.1/metrics/series").text
    assert "clash" in series
    assert "clash-too" not in series
    method = {"notification_method": {"name": "me", "type": "EMAIL", "address": "a@example.org"}}
    for token in (here, there):
        made = httpx.post(
            f"{cloud.url}/v1.1/notification-methods",
            json=method, headers={"X-Auth-Token": token}, timeout=30,
        )  # fmt: skip
        assert made.status_code == 201, made.text


def test_a_project_keeps_its_data_when_it_is_renamed(cloud: Cloud) -> None:
    keystone = cloud.keystone
    first = keystone.make("project", "first")
    user = keystone.user("a-renamer", (first, "member"))
    assert cloud.post(cloud.token("a-renamer", "first"), "kept").status_code == 204
    keystone.call("PATCH", f"/projects/{first}", {"project": {"name": "renamed"}})
    second = keystone.make("project", "first")
    keystone.grant(user, second, "member")
    new = cloud.token("a-renamer", "first")
    assert cloud.post(new, "fresh").status_code == 204
    assert "kept" not in cloud.get(new, "/v1.1/metrics/series").text
    assert "kept" in cloud.get(cloud.token("a-renamer", "renamed"), "/v1.1/metrics/series").text


def test_agents_report_for_projects_that_nobody_signed_in_to(cloud: Cloud) -> None:
    keystone = cloud.keystone
    agent = cloud.token("an-agent", "service")
    quiet = keystone.make("project", "quiet")
    assert cloud.post(agent, "hpcs.compute", tenant=quiet).status_code == 204
    keystone.user("a-quiet", (quiet, "reader"))
    assert "hpcs.compute" in cloud.get(cloud.token("a-quiet", "quiet"), "/v1.1/metrics/series").text
    off = keystone.make("project", "off", enabled=False)
    for tenant in (off, "0" * 32, "quiet", "..", "x" * 40):
        assert cloud.post(agent, "hpcs.compute", tenant=tenant).status_code == 404
    assert cloud.post(cloud.token("a-member"), "hpcs.compute", tenant=quiet).status_code == 403


def test_passwords_with_each_request(cloud: Cloud) -> None:
    def push(user: str, password: str, query: str = "") -> httpx.Response:
        return httpx.post(
            f"{cloud.url}/write?db=basic{query}", content="till,till=1 sales=5",
            auth=(user, password), timeout=30,
        )  # fmt: skip

    assert push("a-member", PROJECT_PASSWORD).status_code == 204
    assert push("a-member", PROJECT_PASSWORD, "&project=shop").status_code == 204
    assert push("Default\\a-member", PROJECT_PASSWORD).status_code == 204
    assert push("a-reader", PROJECT_PASSWORD).status_code == 403
    assert push("a-member", "wrong").status_code == 401
    assert push("a-member", PROJECT_PASSWORD, "&project=stock").status_code == 401
    assert push("nobody", PROJECT_PASSWORD).status_code == 401
    assert "basic" in cloud.get(cloud.token("a-member"), "/v1.1/metrics/series").text


def test_the_console(cloud: Cloud) -> None:
    with httpx.Client(base_url=cloud.url, follow_redirects=True, timeout=40) as browser:

        def sign_in(user: str, password: str = PROJECT_PASSWORD, **more: str) -> httpx.Response:
            browser.cookies.clear()
            return browser.post(
                "/console/sign-in", data={"user": user, "password": password, **more}
            )

        assert "heliometer user password" not in browser.get("/console/sign-in").text
        assert sign_in("a-member", "wrong").status_code == 401
        refused = sign_in("a-cleaner")
        assert refused.status_code == 403
        assert "a role that counts here" in refused.text
        page = sign_in("a-admin")
        assert page.status_code == 200
        assert "a-admin in shop" in page.text
        assert "/console/people" not in page.text
        assert "everywhere" not in page.text
        people = browser.get("/console/people")
        assert people.status_code == 404
        assert "live in Keystone" in people.text
        proof = re.search(r'name="proof" value="([0-9a-f]+)"', page.text)
        assert proof is not None
        proven = {"proof": proof[1], "project": cloud.ids["shop"]}
        changed = browser.post("/console/project", data=proven)
        assert changed.status_code == 200
        assert "a-admin in shop" in changed.text
        proof = re.search(r'name="proof" value="([0-9a-f]+)"', changed.text)
        assert proof is not None
        browser.post("/console/sign-out", data={"proof": proof[1]})
        assert "Password" in browser.get("/console").text
        assert sign_in("Default\\a-member", project="shop").status_code == 200
        assert sign_in("a-member", project=cloud.ids["shop"]).status_code == 200
        assert sign_in("a-member", project="stock").status_code == 401


def test_commands(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.keystone.settings().items():
        monkeypatch.setenv(name, value)
    made = cloud.server.command("project", "create", "x")
    assert made.returncode == 1
    assert "live in Keystone" in made.stderr
    doctor = cloud.server.command("doctor")
    lines = [line for line in doctor.stdout.splitlines() if " identity: " in line]
    assert lines == [
        f"ok    identity: Keystone at {cloud.keystone.url} lets heliometer check tokens"
    ]
    monkeypatch.setenv("HELIOMETER_IDENTITY_KEYSTONE_PASSWORD", "wrong")
    doctor = cloud.server.command("doctor")
    assert "FAIL  identity: " in doctor.stdout
    assert "refuses the service user heliometer" in doctor.stdout
    monkeypatch.setenv("HELIOMETER_IDENTITY_KEYSTONE_URL", "http://127.0.0.1:9/v3")
    assert "cannot be asked" in cloud.server.command("doctor").stdout
