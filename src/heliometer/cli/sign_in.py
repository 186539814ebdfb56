"""Signing in: Keystone v3 and v2.0 (v1.1 §3.1), version discovery, the service catalog."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx
import msgspec

from heliometer.cli.credentials import DEFAULT_URL, Credentials
from heliometer.cli.errors import CommandError
from heliometer.cli.responses import checked, decode, fault_message

SERVICE_TYPE = "hpext:monitoring"


Send = Callable[..., httpx.Response]
"""``send(method, url, **request)``, with the retries of the client."""


@dataclass(frozen=True, slots=True)
class Session:
    """A token, and the endpoints it is for."""

    token: str
    endpoint: str
    """URL of the v1.1 monitoring API, without a final slash."""
    identity: str
    """URL of the identity API, version included, without a final slash."""
    document: Any
    """What identity answered: v3's ``token`` or v2.0's ``access`` object."""


def sign_in(access: Credentials, send: Send) -> Session:
    """Get a token with the password, or use the given one. Raises CommandError."""
    root = (access.url or DEFAULT_URL).rstrip("/")
    identity = _version_url((access.auth_url or f"{root}/identity").rstrip("/"), send)
    if access.token:
        return _with_token(access, identity, send)
    for value, missing in (
        (access.username, "user given; use --username or OS_USERNAME"),
        (access.password, "password given; use --password-stdin or OS_PASSWORD"),
        (access.project or access.project_id, "project given; use --project or OS_PROJECT_NAME"),
    ):
        if not value:
            raise CommandError(f"cannot sign in to {identity}: no {missing}")
    v2 = identity.endswith("/v2.0")
    path = "/tokens" if v2 else "/auth/tokens"
    body = _v2_body(access) if v2 else _v3_body(access)
    response = send(
        "POST",
        identity + path,
        content=msgspec.json.encode(body),
        headers={"Content-Type": "application/json"},
    )
    document = _answer(response, "access" if v2 else "token", f"sign in to {identity}")
    token = document.get("token", {}).get("id") if v2 else response.headers.get("X-Subject-Token")
    if not token:
        raise CommandError(f"{identity} answered without a token")
    return Session(token, _endpoint(access, document), identity, document)


def show_token(session: Session, token: str, send: Send) -> Any:
    """Identity's description of ``token``. Raises CommandError when it is not valid."""
    if session.identity.endswith("/v2.0"):
        response = send(
            "GET", f"{session.identity}/tokens/{token}", headers={"X-Auth-Token": session.token}
        )
        return _answer(response, "access", "show the token")
    response = send(
        "GET",
        f"{session.identity}/auth/tokens",
        headers={"X-Auth-Token": session.token, "X-Subject-Token": token},
    )
    return _answer(response, "token", "show the token")


def _with_token(access: Credentials, identity: str, send: Send) -> Session:
    if access.url:
        return Session(access.token, _endpoint(access, {}), identity, {})
    session = Session(access.token, "", identity, {})
    document = show_token(session, access.token, send)
    return Session(access.token, _endpoint(access, document), identity, document)


def _version_url(url: str, send: Send) -> str:
    """The URL with its version: as given when it has one, else the best that is offered there."""
    if url.endswith(("/v3", "/v2.0")):
        return url
    response = send("GET", url, follow_redirects=True)
    try:
        document = msgspec.json.decode(response.content)
        versions = document["versions"]
        values = versions["values"] if isinstance(versions, dict) else versions
        links: dict[str, str] = {
            version["id"]: urljoin(f"{url}/", link["href"]).rstrip("/")
            for version in values
            for link in version["links"]
            if link["rel"] == "self"
        }
    except (msgspec.DecodeError, KeyError, TypeError):
        links = {}
    for prefix in ("v3", "v2.0"):
        for name, href in links.items():
            if name.startswith(prefix):
                return href
    raise CommandError(
        f"{url} is not an identity service; give the server's root with --url, or the full "
        "OS_AUTH_URL, such as https://host/identity/v3"
    )


def _v3_body(access: Credentials) -> dict[str, Any]:
    project: dict[str, Any] = {"id": access.project_id}
    if not access.project_id:
        project = {"name": access.project, "domain": {"name": access.project_domain}}
    user = {
        "name": access.username,
        "domain": {"name": access.user_domain},
        "password": access.password,
    }
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }
    }


def _v2_body(access: Credentials) -> dict[str, Any]:
    tenant = (
        {"tenantId": access.project_id} if access.project_id else {"tenantName": access.project}
    )
    credentials = {"username": access.username, "password": access.password}
    return {"auth": {**tenant, "passwordCredentials": credentials}}


def _answer(response: httpx.Response, key: str, what: str) -> Any:
    if response.status_code in (401, 403, 404):
        reason = fault_message(response.content) or "refused"
        hint = "; check user, password and project" if what.startswith("sign") else ""
        raise CommandError(f"cannot {what}: {reason.rstrip('.')}{hint}")
    document = decode(checked(response))
    if not isinstance(document, dict) or not isinstance(document.get(key), dict):
        raise CommandError(f"cannot {what}: the answer has no {key!r}")
    return document[key]


def _endpoint(access: Credentials, document: Mapping[str, Any]) -> str:
    """The monitoring endpoint: below the URL that is given, else out of the catalog."""
    if access.url:
        return f"{access.url.rstrip('/')}/v1.1"
    services = document.get("catalog") or document.get("serviceCatalog") or []
    endpoints = [
        endpoint
        for service in services
        if service.get("type") == SERVICE_TYPE
        for endpoint in service.get("endpoints", [])
        if endpoint.get("interface", "public") == "public"
    ]
    if not endpoints:
        raise CommandError(
            f"the service catalog has no {SERVICE_TYPE}; give the server's root with --url"
        )
    for endpoint in endpoints:
        if access.region in ("", endpoint.get("region"), endpoint.get("region_id")):
            return str(endpoint.get("url") or endpoint.get("publicURL")).rstrip("/")
    regions = ", ".join(sorted({str(endpoint.get("region")) for endpoint in endpoints}))
    raise CommandError(f"{SERVICE_TYPE} is not in region {access.region}; its regions: {regions}")
