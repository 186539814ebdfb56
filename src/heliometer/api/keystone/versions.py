"""Version documents, from which clients learn the versions and their URLs (Keystone v3)."""

from typing import Any

from starlette.responses import Response

from heliometer.api.keystone import replies
from heliometer.api.keystone.faults import render_fault, reply
from heliometer.api.services import Services
from heliometer.http.operation import Call, Dialect, Operation

SOURCE = "Keystone v3, API versions"


def document(base_url: str, version: str) -> dict[str, Any]:
    """The description of a version, ``v2.0`` or ``v3``."""
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


def dialect(_: Services) -> Dialect:
    """The list of versions at ``/identity``."""
    return Dialect(
        name="identity",
        title="Identity versions (Keystone-compatible)",
        prefix="/identity",
        operations=(
            Operation(
                "GET", "", "List the versions of the identity API", SOURCE, list_versions, None, 300
            ),
        ),
        render_fault=render_fault,
        replies=replies.VERSIONS,
        fault=replies.FAULT,
    )  # fmt: skip


async def list_versions(call: Call) -> Response:
    values = [document(call.base_url, version) for version in ("v3", "v2.0")]
    return reply({"versions": {"values": values}}, 300)


def version_document(version: str) -> Operation:
    """The operation that describes a version."""

    async def handler(call: Call) -> Response:
        return reply({"version": document(call.base_url, version)})

    return Operation("GET", "", f"Describe identity {version}", SOURCE, handler)
