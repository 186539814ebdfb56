"""Identity over a real socket: v2.0 as HP Monitoring v1.1 §3.1 shows it, and Keystone v3."""

import json
import re
from typing import Any

import httpx
import pytest

from api.keystone.identity_server import identity_url as url

__all__ = ["url"]

ADMIN = ("demo", "correct horse battery")
HTTP = httpx.Client()
UNAUTHORIZED = "The request you have made requires authentication."


def v2(username: str = "ann", password: str = "secret", **scope: str) -> dict[str, Any]:
    credentials = {"username": username, "password": password}
    return {"auth": {"passwordCredentials": credentials, **scope}}


def v3(
    scope: Any = None, *, user: dict[str, Any] | None = None, password: str = "secret"
) -> dict[str, Any]:
    user = {"name": "ann", "domain": {"id": "default"}} if user is None else user
    identity = {"methods": ["password"], "password": {"user": {**user, "password": password}}}
    return {"auth": {"identity": identity, **({} if scope is None else {"scope": scope})}}


def by_token(token: str, scope: Any = None) -> dict[str, Any]:
    identity = {"methods": ["token"], "token": {"id": token}}
    return {"auth": {"identity": identity, **({} if scope is None else {"scope": scope})}}


def post(url: str, version: str, body: Any) -> httpx.Response:
    path = {"v2.0": "/identity/v2.0/tokens", "v3": "/identity/v3/auth/tokens"}[version]
    return HTTP.post(url + path, json=body)


def sign_in(url: str, user: str = "ann", password: str = "secret") -> str:
    reply = post(url, "v3", v3({"project": {"name": "shop", "domain": {"id": "default"}}},
                               user={"name": user, "domain": {"id": "default"}},
                               password=password))  # fmt: skip
    assert reply.status_code == 201, reply.text
    return reply.headers["X-Subject-Token"]


def admin(url: str) -> str:
    token: str = post(url, "v2.0", v2(*ADMIN, tenantName="demo")).json()["access"]["token"]["id"]
    return token


def fault(reply: httpx.Response, status: int, title: str) -> str:
    """Check Keystone's form of a fault and return its message."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "title"}
    assert (error["code"], error["title"]) == (status, title)
    assert reply.headers["content-type"] == "application/json"
    message: str = error["message"]
    return message


# Versions


@pytest.mark.parametrize("path", ["/identity", "/identity/"])
def test_the_list_of_versions(url: str, path: str) -> None:
    reply = HTTP.get(url + path)
    assert reply.status_code == 300
    values = {v["id"]: v for v in reply.json()["versions"]["values"]}
    assert set(values) == {"v3.14", "v2.0"}
    assert values["v3.14"]["links"] == [{"rel": "self", "href": f"{url}/identity/v3/"}]


@pytest.mark.parametrize("version", ["v3", "v2.0"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_version(url: str, version: str, slash: str) -> None:
    reply = HTTP.get(f"{url}/identity/{version}{slash}")
    assert reply.status_code == 200
    assert reply.json()["version"]["id"].startswith(version)
    assert reply.json()["version"]["links"][0]["href"] == f"{url}/identity/{version}/"


# v2.0


def test_v2_sign_in_as_documented(url: str) -> None:
    reply = post(url, "v2.0", v2(tenantName="shop"))
    assert reply.status_code == 200
    access = reply.json()["access"]
    tenant = access["token"]["tenant"]
    assert (tenant["name"], tenant["enabled"]) == ("shop", True)
    assert re.fullmatch(r"[0-9a-f]{32}", tenant["id"])
    for key in ("expires", "issued_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", access["token"][key])
    assert access["user"]["name"] == access["user"]["username"] == "ann"
    assert access["user"]["roles"] == [{"name": "member"}]
    monitoring = next(s for s in access["serviceCatalog"] if s["type"] == "hpext:monitoring")
    assert monitoring["name"] == "Monitoring"
    [endpoint] = monitoring["endpoints"]
    assert {
        "tenantId": tenant["id"],
        "publicURL": f"{url}/v1.1",
        "publicURL2": "",
        "region": "region-a.geo-1",
        "versionId": "1.1",
        "versionInfo": f"{url}/v1.1",
        "versionList": url,
    }.items() <= endpoint.items()
    assert reply.headers["Vary"] == "X-Auth-Token"
    assert HTTP.get(f"{url}/v1.1/metering", headers={"X-Auth-Token": access["token"]["id"]})


def test_v2_by_project_id_in_either_place_and_unscoped(url: str) -> None:
    tenant = post(url, "v2.0", v2(tenantName="shop")).json()["access"]["token"]["tenant"]
    for scope in ({"tenantId": tenant["id"]}, {"tenantName": tenant["id"]}):
        assert post(url, "v2.0", v2(**scope)).json()["access"]["token"]["tenant"] == tenant
    for scope in ({}, {"tenantName": ""}):
        access = post(url, "v2.0", v2(**scope)).json()["access"]
        assert "tenant" not in access["token"]
        assert (access["serviceCatalog"], access["user"]["roles"]) == ([], [])


def test_v2_exchange_list_check_and_revoke(url: str) -> None:
    unscoped = post(url, "v2.0", v2()).json()["access"]["token"]
    listed = HTTP.get(f"{url}/identity/v2.0/tenants", headers={"X-Auth-Token": unscoped["id"]})
    assert [t["name"] for t in listed.json()["tenants"]] == ["shop", "stock"]
    body = {"auth": {"tenantName": "stock", "token": {"id": unscoped["id"]}}}
    scoped = post(url, "v2.0", body).json()["access"]["token"]
    assert scoped["expires"] == unscoped["expires"]
    path = f"{url}/identity/v2.0/tokens/{scoped['id']}"
    mine = {"X-Auth-Token": scoped["id"]}
    assert HTTP.get(path, headers=mine).json()["access"]["token"]["tenant"]["name"] == "stock"
    assert HTTP.head(path, headers=mine).status_code == 200
    fault(HTTP.get(path, headers={"X-Auth-Token": sign_in(url, "bob")}), 403, "Forbidden")
    assert HTTP.delete(path, headers={"X-Auth-Token": admin(url)}).status_code == 204
    fault(HTTP.get(path, headers=mine), 401, "Unauthorized")
    fault(HTTP.get(path, headers={"X-Auth-Token": unscoped["id"]}), 404, "Not Found")


# v3


@pytest.mark.parametrize("domain", [{"id": "default"}, {"name": "Default"}, {"name": "default"}])
def test_v3_sign_in(url: str, domain: dict[str, str]) -> None:
    body = v3(
        {"project": {"name": "shop", "domain": domain}}, user={"name": "ann", "domain": domain}
    )
    reply = post(url, "v3", body)
    assert reply.status_code == 201
    assert len(reply.headers["X-Subject-Token"]) == 43
    assert reply.headers["Vary"] == "X-Auth-Token"
    token = reply.json()["token"]
    assert token["methods"] == ["password"]
    assert token["user"]["name"] == "ann"
    assert token["user"]["password_expires_at"] is None
    assert token["project"]["name"] == "shop"
    assert token["is_domain"] is False
    for part in (token["user"], token["project"]):
        assert part["domain"] == {"id": "default", "name": "Default"}
    assert [role["name"] for role in token["roles"]] == ["member"]
    assert len(token["audit_ids"]) == 1
    for key in ("expires_at", "issued_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", token[key])
    urls = {s["type"]: {e["url"] for e in s["endpoints"]} for s in token["catalog"]}
    assert urls == {
        "hpext:monitoring": {f"{url}/v1.1"},
        "maas": {f"{url}/v1.0"},
        "monitoring": {url},
        "metering": {url},
        "identity": {f"{url}/identity/v3"},
    }
    by_id = v3({"project": {"id": token["project"]["id"]}}, user={"id": token["user"]["id"]})
    again = post(url, "v3", by_id).json()["token"]
    assert (again["project"], again["user"]) == (token["project"], token["user"])
    assert again["catalog"] == token["catalog"]


@pytest.mark.parametrize("scope", [None, "unscoped", {"unscoped": {}}])
def test_v3_unscoped(url: str, scope: Any) -> None:
    reply = post(url, "v3", v3(scope))
    assert reply.status_code == 201
    assert not {"project", "roles", "catalog"} & set(reply.json()["token"])
    token = reply.headers["X-Subject-Token"]
    catalog = HTTP.get(f"{url}/identity/v3/auth/catalog", headers={"X-Auth-Token": token})
    fault(catalog, 403, "Forbidden")
    # It opens nothing but identity.
    denied = HTTP.get(f"{url}/v1.1/metering", headers={"X-Auth-Token": token})
    assert denied.status_code == 403


def test_v3_exchange_validate_and_revoke(url: str) -> None:
    first = post(url, "v3", v3("unscoped"))
    unscoped = first.headers["X-Subject-Token"]
    stock = {"project": {"name": "stock", "domain": {"id": "default"}}}
    second = post(url, "v3", by_token(unscoped, stock))
    scoped = second.headers["X-Subject-Token"]
    assert second.json()["token"]["methods"] == ["password", "token"]
    assert second.json()["token"]["expires_at"] == first.json()["token"]["expires_at"]
    path = f"{url}/identity/v3/auth/tokens"
    headers = {"X-Auth-Token": scoped, "X-Subject-Token": scoped}
    validated = HTTP.get(path, headers=headers)
    assert validated.status_code == 200
    assert validated.headers["X-Subject-Token"] == scoped
    assert validated.json() == second.json()
    assert "catalog" not in HTTP.get(f"{path}?nocatalog", headers=headers).json()["token"]
    assert HTTP.head(path, headers=headers).status_code == 200
    fault(HTTP.get(path, headers={**headers, "X-Auth-Token": sign_in(url, "bob")}),
          403, "Forbidden")  # fmt: skip
    assert HTTP.get(path, headers={**headers, "X-Auth-Token": admin(url)}).status_code == 200
    fault(HTTP.get(path, headers={"X-Auth-Token": scoped}), 404, "Not Found")
    assert HTTP.delete(path, headers=headers).status_code == 204
    fault(HTTP.get(path, headers=headers), 401, "Unauthorized")
    assert HTTP.head(path, headers={**headers, "X-Auth-Token": unscoped}).status_code == 404


def test_v3_lists(url: str) -> None:
    mine = {"X-Auth-Token": sign_in(url)}
    projects = HTTP.get(f"{url}/identity/v3/auth/projects", headers=mine).json()
    assert [p["name"] for p in projects["projects"]] == ["shop", "stock"]
    assert projects["links"]["self"] == f"{url}/identity/v3/auth/projects"
    catalog = HTTP.get(f"{url}/identity/v3/auth/catalog", headers=mine).json()
    assert {s["type"] for s in catalog["catalog"]} >= {"metering", "identity"}
    domains = HTTP.get(f"{url}/identity/v3/auth/domains", headers=mine).json()
    assert domains["domains"] == []


# Refusals


def test_wrong_passwords_and_unknown_users_look_alike(url: str) -> None:
    replies = [
        post(url, "v2.0", v2("ann", "wrong", tenantName="shop")),
        post(url, "v2.0", v2("nobody", "wrong", tenantName="shop")),
        post(url, "v3", v3(password="wrong")),
        post(url, "v3", v3(user={"id": "f" * 32})),
        post(url, "v3", by_token("x" * 43)),
        post(url, "v3", by_token("")),
    ]
    for reply in replies:
        assert fault(reply, 401, "Unauthorized") == UNAUTHORIZED
        version = "v2.0" if "v2.0" in str(reply.url) else "v3"
        assert reply.headers["WWW-Authenticate"] == f'Keystone uri="{url}/identity/{version}"'


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ({"domain": {"id": "default"}}, "no domain roles"),
        ({"system": {"all": True}}, "no system roles"),
        ({"OS-TRUST:trust": {"id": "x"}}, "no trust roles"),
        ({"project": {"name": "shop", "domain": {"id": "other"}}}, "there is no such domain"),
        ({"project": {"name": "nowhere", "domain": {"id": "default"}}}, "does not belong"),
    ],
)
def test_v3_scopes_that_are_refused(url: str, scope: Any, said: str) -> None:
    assert said in fault(post(url, "v3", v3(scope)), 401, "Unauthorized")


@pytest.mark.parametrize("method", ["totp", "application_credential", "oauth1"])
def test_v3_methods_that_are_not_offered(url: str, method: str) -> None:
    body = {"auth": {"identity": {"methods": [method], method: {}}}}
    assert method in fault(post(url, "v3", body), 401, "Unauthorized")


@pytest.mark.parametrize(
    "path",
    [
        "/v3/auth/tokens",
        "/v3/auth/projects",
        "/v3/auth/catalog",
        "/v3/auth/domains",
        "/v2.0/tenants",
        "/v2.0/tokens/x",
    ],
)
@pytest.mark.parametrize("tokens", [[], ["x"], ["x" * 43], ["TOKEN", "TOKEN"], ["TOKEN, TOKEN"]])
@pytest.mark.reliability(17)
def test_no_good_token(url: str, path: str, tokens: list[str]) -> None:
    good = sign_in(url)
    headers = [("X-Auth-Token", token.replace("TOKEN", good)) for token in tokens]
    message = fault(HTTP.get(f"{url}/identity{path}", headers=headers), 401, "Unauthorized")
    assert message == UNAUTHORIZED


MALFORMED = [
    (b"", "empty"),
    (b"{", "line 1"),
    (b"\xff", "UTF-8"),
    (b"[]", "body: expected object, got array"),
    (b"{}", "auth"),
    (b'{"auth": []}', "auth: expected object"),
    (b'{"auth": {"a": NaN}}', "auth.a: NaN"),
    (b'{"auth": {}, "auth": {}}', "the key auth occurs twice"),
    (b"[" * 5000 + b"]" * 5000, "deeper than 32"),
    (b'{"auth": {"a": "\\ud800"}}', "half a surrogate"),
]
PASSWORD = "auth.identity.password"


@pytest.mark.parametrize(("body", "said"), [
    *MALFORMED,
    (v3(user={}), f"{PASSWORD}.user: id or name"),
    (v3(user={"name": 5}), f"{PASSWORD}.user.name: expected str | null, got int"),
    (v3(user={"name": "ann", "domain": {}}), f"{PASSWORD}.user.domain: id or name"),
    (v3(password="x" * 1025), "password: it must have 1 to 1024 bytes, not 1025"),
    (v3("everything"), "auth.scope"),
    (v3({}), "auth.scope"),
    (v3([]), "auth.scope: expected"),
    (v3({"project": {}}), "auth.scope.project: id or name"),
    (v3({"project": {"id": "x"}, "domain": {"id": "default"}}), "auth.scope"),
    ({"auth": {"identity": {"methods": []}}}, "auth.identity.methods"),
    ({"auth": {"identity": {"methods": ["password"]}}}, "auth.identity: password"),
    ({"auth": {"identity": {"methods": ["token"]}}}, "auth.identity: token"),
    ({"auth": {"identity": {"methods": ["token", "password"]}}}, "exactly one"),
    ({"auth": {"identity": {"methods": ["token"], "token": {"id": 5}}}}, "auth.identity.token.id"),
])  # fmt: skip
def test_v3_bodies_that_are_wrong(url: str, body: Any, said: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = HTTP.post(f"{url}/identity/v3/auth/tokens", content=content)
    assert said in fault(reply, 400, "Bad Request")


@pytest.mark.parametrize(("body", "said"), [
    *MALFORMED,
    ({"auth": {}}, "auth: passwordCredentials or token"),
    ({"auth": {"passwordCredentials": {"username": "a"}}}, "missing required field password"),
    ({"auth": {"passwordCredentials": {"password": "a"}}}, "either username or userId"),
    ({"auth": {"passwordCredentials": {"username": "", "password": "a"}}}, "either username"),
    ({"auth": {"tenantName": 5}}, "auth.tenantName: expected str | null, got int"),
    (v2(tenantName="a", tenantId="b"), "exclude each other"),
    ({"auth": {"token": {"id": "x"}, "passwordCredentials": {"username": "a", "password": "b"}}},
     "exclude each other"),
])  # fmt: skip
def test_v2_bodies_that_are_wrong(url: str, body: Any, said: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = HTTP.post(f"{url}/identity/v2.0/tokens", content=content)
    assert said in fault(reply, 400, "Bad Request")


def test_other_methods_paths_and_media_types(url: str) -> None:
    tokens = f"{url}/identity/v3/auth/tokens"
    fault(HTTP.put(tokens, json={}), 405, "Method Not Allowed")
    fault(HTTP.get(f"{url}/identity/v3/groups"), 404, "Not Found")
    fault(HTTP.get(f"{url}/identity/v4"), 404, "Not Found")
    xml = {"Content-Type": "application/xml"}
    fault(HTTP.post(tokens, content=b"<auth/>", headers=xml), 415, "Unsupported Media Type")
    assert HTTP.post(f"{tokens}/", json=v3()).status_code == 201
