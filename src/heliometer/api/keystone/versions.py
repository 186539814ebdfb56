"""Version documents, from which clients find out what is spoken where (Keystone v3)."""

from typing import Any

from starlette.responses import Response

from heliometer.api.keystone.faults import reply
from heliometer.http.operation import Call, Operation

SOURCE = "Keystone v3, API versions"


def document(base_url: str, version: str) -> dict[str, Any]:
    """What one version says of itself."""
    v3 = version == "v3"
    return {
        "id": "v3.14" if v3 else "v2.0",
        "status": "stable" if v3 else "deprecated",
        "updated": "2020-04-07T00:00:00Z" if v3 else "2016-08-04T00:00:00Z",
        "links": [{"rel": "self", "href": f"{base_url}/identity/{version}/"}],
        "media-types": [
            {
                "base": "application/json",
                "type": f"application/vnd.openstack.identity-{'v3' if v3 else 'v2.0'}+json",
            }
        ],
    }


def version_list() -> Operation:
    """``GET /identity``."""

    async def handler(call: Call) -> Response:
        values = [document(call.base_url, version) for version in ("v3", "v2.0")]
        return reply({"versions": {"values": values}}, 300)

    return Operation("GET", "", "List the versions of the identity API", SOURCE, handler, None, 300)


def version_document(version: str) -> Operation:
    """``GET /identity/{version}``."""

    async def handler(call: Call) -> Response:
        return reply({"version": document(call.base_url, version)})

    return Operation("GET", "", f"Describe identity {version}", SOURCE, handler)
