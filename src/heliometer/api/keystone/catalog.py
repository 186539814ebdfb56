"""The service catalog, in the forms of both versions."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from heliometer.api.keystone.faults import reply
from heliometer.api.keystone.requests import links, signed_in
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import Call
from heliometer.identity.ports import Identity


class Service(NamedTuple):
    """An API in the catalog. Paths are relative to the base URL."""

    type: str
    name: str
    path: str
    version: str
    version_path: str
    list_path: str = ""
    v2_path: str | None = None
    """The path in the v2.0 catalog; ``None``: ``path``."""


SERVICES = (
    Service("hpext:monitoring", "Monitoring", "/v1.1", "1.1", "/v1.1"),
    Service("maas", "MaaS", "/v1.0", "1.0", "/v1.0"),
    # Clients of these append /v2 themselves.
    Service("monitoring", "Telemetry", "", "2", "/v2"),
    Service("metering", "Telemetry", "", "2", "/v2"),
    Service(
        "identity", "Identity", "/identity/v3", "3", "/identity/v3", "/identity", "/identity/v2.0"
    ),
)
INTERFACES = ("public", "internal", "admin")


def stable_id(*parts: str) -> str:
    """An id in Keystone's form that survives restarts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def catalog_v3(base_url: str, region: str) -> list[Mapping[str, Any]]:
    """``token.catalog`` (Keystone v3)."""
    return [
        {
            "id": stable_id(service.type),
            "type": service.type,
            "name": service.name,
            "endpoints": [
                {
                    "id": stable_id(service.type, interface, region),
                    "interface": interface,
                    "region": region,
                    "region_id": region,
                    "url": base_url + service.path,
                }
                for interface in INTERFACES
            ],
        }
        for service in SERVICES
    ]


async def own_catalog(identity: Identity, call: Call, region: str) -> Response:
    """Answers with the catalog for the caller's project. Raises FORBIDDEN without one."""
    caller = await signed_in(identity, call)
    if not caller.project_id:
        raise HeliometerError(
            Code.FORBIDDEN,
            "An unscoped token has no catalog.",
            details="Ask for a token that is scoped to a project.",
        )
    body = {"catalog": catalog_v3(call.base_url, region), "links": links(call, "/auth/catalog")}
    return reply(body, vary=True)


def catalog_v2(base_url: str, region: str, project_id: str) -> list[Mapping[str, Any]]:
    """``access.serviceCatalog`` (v1.1 §3.1, and Keystone's v2.0 internal and admin URLs)."""
    return [_entry_v2(service, base_url, region, project_id) for service in SERVICES]


def _entry_v2(service: Service, base_url: str, region: str, project_id: str) -> Mapping[str, Any]:
    version_2 = service.v2_path is not None
    url = base_url + (service.path if service.v2_path is None else service.v2_path)
    endpoint = {
        "id": stable_id(service.type, region),
        "tenantId": project_id,
        "publicURL": url,
        "internalURL": url,
        "adminURL": url,
        "publicURL2": "",
        "region": region,
        "versionId": "2.0" if version_2 else service.version,
        "versionInfo": url if version_2 else base_url + service.version_path,
        "versionList": base_url + service.list_path,
    }
    return {
        "name": service.name,
        "type": service.type,
        "endpoints": [endpoint],
        "endpoints_links": [],
    }
