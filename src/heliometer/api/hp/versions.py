"""Versions of the HP dialects (v1.1 §4.4.1, v1.0 §4.4.1)."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from heliometer.api.hp.replies import VersionsReply
from heliometer.api.hp.wire import json_response
from heliometer.http.operation import Call, Operation

LISTED_UPDATED = "1361977272958"
"""``updated`` in the list: milliseconds since the epoch, as text."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the API."""

    number: str
    id: str
    """As the version's own document writes it."""
    listed_status: str
    """In the list, which v1.1's document specifies; v1.0's own says CURRENT."""

    def listed(self, base_url: str) -> dict[str, Any]:
        """The version as v1.1 §4.4.1.1 lists it."""
        return self._described(base_url, self.number, self.listed_status, LISTED_UPDATED)

    def detailed(self, base_url: str) -> dict[str, Any]:
        """The version as its own document shows it (§4.4.1.2 of each)."""
        return self._described(base_url, self.id, "CURRENT", "2012-09-25T00:00:00Z")

    def _described(self, base_url: str, name: str, status: str, updated: str) -> dict[str, Any]:
        # §4.4.1.1 shows links without the "v", which contradicts the paths of §4.1.
        links = [{"rel": "self", "href": f"{base_url}/v{self.number}"}]
        return {"id": name, "links": links, "status": status, "updated": updated}


V1_0 = Version("1.0", "v1.0", "DEPRECATED")
V1_1 = Version("1.1", "1.1", "CURRENT")
VERSIONS = (V1_0, V1_1)


async def list_versions(call: Call) -> Response:
    """Answer with all versions of the HP dialects (v1.1 §4.4.1.1)."""
    return json_response({"versions": [v.listed(call.base_url) for v in VERSIONS]})


def get_version(version: Version, source: str) -> Operation:
    """The operation that describes a version (§4.4.1.2)."""

    async def handler(call: Call) -> Response:
        return json_response({"version": version.detailed(call.base_url)})

    return Operation(
        "GET", "", "Get a specific version", source, handler, faults=(401, 403, 404),
    )  # fmt: skip


LIST = Operation(
    "GET", "", "List all versions", "v1.1 §4.4.1.1", list_versions, reply=VersionsReply
)
