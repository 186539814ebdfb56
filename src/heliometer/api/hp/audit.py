"""The audit trail in v1.1's form; beyond the document."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.http import paging
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.audit import AuditEntry, AuditFilter, AuditTrail
from heliometer.identity.model import Permission

PATH = "/v1.1/audit"
PAGE = 1000
ENTRIES = 100
"""Entries in an answer without a limit."""
PARAMETERS = (
    Parameter("start_time", "ISO 8601; inclusive."),
    Parameter("end_time", "ISO 8601; exclusive."),
    Parameter("actor", "Only what this user changed."),
    Parameter("action", "Only this kind of change, such as delete alarm."),
    Parameter("project_id", "Only this project; operators see all of them."),
    Parameter("limit", f"Entries in an answer: at most {PAGE}, else {ENTRIES}."),
    wire.MARKER,
)


class AuditOperations:
    """Who changed what, newest first."""

    def __init__(self, audit: AuditTrail) -> None:
        self._audit = audit

    def operations(self) -> tuple[Operation, ...]:
        """The one operation."""
        return (
            Operation(
                "GET", "/audit", "List who changed what", "beyond the document", self.find,
                Permission.ADMINISTER, 200, (404,), parameters=PARAMETERS,
            ),
        )  # fmt: skip

    async def find(self, call: Call) -> Response:
        query = call.request.query_params
        marker, given = wire.page(call, PAGE)
        limit = given or ENTRIES
        start, end = wire.only(query, "start_time"), wire.only(query, "end_time")
        wanted = AuditFilter(
            project_id=wire.only(query, "project_id"),
            actor=wire.only(query, "actor"),
            action=wire.only(query, "action"),
            start_ms=wire.time_ms("start_time", start) if start else None,
            end_ms=wire.time_ms("end_time", end) if end else None,
        )
        before = wire.whole_number("marker", marker, 1, 10**11) if marker else None
        found = await self._audit.find(call.caller, wanted, before, limit + 1)
        shown, last = paging.cut(found, limit)
        return wire.json_response(
            {
                "audit": [entry_document(e) for e in shown],
                "links": wire.next_link(call, PATH, str(last.id) if last else None),
            }
        )


def entry_document(entry: AuditEntry) -> Mapping[str, Any]:
    """An entry as JSON."""
    return {
        "id": entry.id,
        "timestamp": wire.iso(entry.at_ms),
        "actor": entry.actor,
        "project_id": entry.project_id,
        "action": entry.action,
        "details": entry.details,
    }
