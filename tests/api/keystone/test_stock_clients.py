"""Stock OpenStack clients, unmodified: keystoneauth1 and openstacksdk."""

from typing import Any

import openstack.connection
import pytest
from keystoneauth1 import discover, exceptions, session
from keystoneauth1.identity import generic, v2, v3

from api.keystone.identity_server import identity_url

__all__ = ["identity_url"]

DEFAULT: dict[str, Any] = {"user_domain_id": "default", "project_domain_name": "Default"}
WHO: dict[str, Any] = {"username": "ann", "password": "secret"}
PATHS: dict[str, str] = {
    "hpext:monitoring": "/v1.1",
    "maas": "/v1.0",
    "monitoring": "",
    "metering": "",
}


def check(url: str, auth: Any, identity: str, project: str = "shop") -> session.Session:
    """Sign in and find every service."""
    signed_in = session.Session(auth)
    assert signed_in.get_token()
    assert auth.get_access(signed_in).project_name == project
    for service_type, path in PATHS.items():
        assert signed_in.get_endpoint(service_type=service_type) == url + path
    assert signed_in.get_endpoint(service_type="identity") == f"{url}/identity/{identity}"
    region: dict[str, Any] = {"service_type": "metering", "region_name": "region-a.geo-1"}
    assert signed_in.get_endpoint(**region, interface="internal") == url
    return signed_in


def project_id(url: str) -> str:
    auth = v3.Password(f"{url}/identity/v3", **WHO, **DEFAULT, project_name="shop")
    found = session.Session(auth).get_project_id()
    assert found
    return found


def test_keystoneauth_v2(identity_url: str) -> None:
    at = f"{identity_url}/identity/v2.0"
    check(identity_url, v2.Password(at, **WHO, tenant_name="shop"), "v2.0")
    check(identity_url, v2.Password(at, **WHO, tenant_id=project_id(identity_url)), "v2.0")
    unscoped = session.Session(v2.Password(at, **WHO)).get_token()
    assert unscoped
    check(identity_url, v2.Token(at, unscoped, tenant_name="stock"), "v2.0", "stock")


def test_keystoneauth_v3(identity_url: str) -> None:
    at = f"{identity_url}/identity/v3"
    check(identity_url, v3.Password(at, **WHO, **DEFAULT, project_name="shop"), "v3")
    by_id = v3.Password(at, **WHO, user_domain_name="Default", project_id=project_id(identity_url))
    check(identity_url, by_id, "v3")
    unscoped = session.Session(
        v3.Password(at, **WHO, user_domain_id="default", unscoped=True)
    ).get_token()
    assert unscoped
    scoped = v3.Token(at, unscoped, project_name="stock", project_domain_id="default")
    check(identity_url, scoped, "v3", "stock")


def test_keystoneauth_discovers(identity_url: str) -> None:
    at = f"{identity_url}/identity"
    found = discover.Discover(session.Session(), at).version_data()
    assert [(v["version"], v["url"]) for v in found] == [
        ((2, 0), f"{at}/v2.0/"),
        ((3, 14), f"{at}/v3/"),
    ]
    check(identity_url, generic.Password(at, **WHO, **DEFAULT, project_name="shop"), "v3")
    check(identity_url, generic.Password(at, **WHO, project_name="shop"), "v2.0")


def test_keystoneauth_signs_in_again_when_its_token_is_stale(identity_url: str) -> None:
    at = f"{identity_url}/identity/v3"
    signed_in = session.Session(v3.Password(at, **WHO, **DEFAULT, project_name="shop"))
    token = signed_in.get_token()
    signed_in.delete(f"{at}/auth/tokens", headers={"X-Subject-Token": token})
    listed = signed_in.get(f"{at}/auth/projects")
    assert [p["name"] for p in listed.json()["projects"]] == ["shop", "stock"]
    assert signed_in.get_token() != token


def test_keystoneauth_understands_a_refusal(identity_url: str) -> None:
    for auth in (
        v3.Password(f"{identity_url}/identity/v3", username="ann", password="no", **DEFAULT),
        v2.Password(f"{identity_url}/identity/v2.0", username="ann", password="no"),
    ):
        with pytest.raises(exceptions.Unauthorized, match="requires authentication"):
            session.Session(auth).get_token()


def test_openstacksdk(identity_url: str) -> None:
    connection = openstack.connection.Connection(
        auth_url=f"{identity_url}/identity",
        username="ann",
        password="secret",
        project_name="shop",
        user_domain_id="default",
        project_domain_id="default",
        region_name="region-a.geo-1",
    )
    assert connection.authorize()
    assert connection.session.get_endpoint(service_type="metering") == identity_url
    assert connection.current_project.name == "shop"
    catalog = {entry["type"] for entry in connection.service_catalog}
    assert catalog == {*PATHS, "identity"}
    connection.close()
