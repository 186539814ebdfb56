"""The page of the audit trail: for admins their project's, for operators all of it."""

from collections.abc import Sequence

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.identity.audit import AuditFilter, AuditTrail
from heliometer.identity.model import Permission

PAGE = 100


def section(audit: AuditTrail) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The page."""
    return (("GET", "/audit", "Audit trail", AuditPage(audit).show, Permission.ADMINISTER),)


class AuditPage:
    """Who changed what, newest first."""

    def __init__(self, audit: AuditTrail) -> None:
        self._audit = audit

    async def show(self, request: PageRequest) -> Response:
        actor = request.query.get("actor", "").strip()[:64]
        action = request.query.get("action", "").strip()[:64]
        text = request.query.get("before", "")
        before = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
        wanted = AuditFilter(actor=actor or None, action=action or None)
        found = await self._audit.find(request.session.caller, wanted, before, PAGE + 1)
        return request.page(
            "audit.html",
            section="audit",
            entries=found[:PAGE],
            older=found[PAGE - 1].id if len(found) > PAGE else None,
            actor=actor,
            action=action,
        )
