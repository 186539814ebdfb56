"""The page of the project's members, for its administrators."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import HeliometerError
from heliometer.identity.builtin.administration import Administration
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.invitations import Invitations
from heliometer.identity.model import ROLES, SERVICE_WIDE, Permission

HERE = "/console/people"


def section(
    identity: BuiltinIdentity, invitations: Invitations | None
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The forms; the page itself is at ``/people`` for who is no operator."""
    pages = MemberPages(identity, invitations)
    administer = Permission.ADMINISTER
    one = "/people/members/{user_id}"
    return (
        ("GET", "/people/members", "Members", pages.members, administer),
        ("POST", f"{one}/role", "Change a member's role", pages.change, administer),
        ("POST", f"{one}/remove", "Remove a member", pages.remove, administer),
        ("POST", "/people/invitations", "Invite somebody", pages.invite, administer),
        (
            "POST",
            "/people/invitations/{invitation_id}/withdraw",
            "Withdraw an invitation",
            pages.withdraw,
            administer,
        ),
    )


class MemberPages:
    """Members of the session's project, and their roles."""

    def __init__(self, identity: BuiltinIdentity, invitations: Invitations | None) -> None:
        self._administration = Administration(identity)
        self._invitations = invitations

    async def _context(self, request: PageRequest) -> dict[str, Any]:
        caller = request.session.caller
        return {
            "section": "people",
            "link": "",
            "members": await self._administration.members(caller, caller.project_id),
            "roles": [role for role in ROLES if role not in SERVICE_WIDE],
            "roles_offered": [(r, r) for r in ROLES if r not in SERVICE_WIDE],
            "invitations": await self._invitations.list(caller) if self._invitations else [],
        }

    async def members(self, request: PageRequest) -> Response:
        return request.page("members.html", **await self._context(request))

    async def change(self, request: PageRequest) -> Response:
        caller, role = request.session.caller, request.form.get("role", "")
        try:
            user = await self._administration.user(caller, request.path("user_id"))
            await self._administration.set_role(caller, caller.project_id, user.id, role)
        except HeliometerError as error:
            return request.wrong("members.html", error, **await self._context(request))
        return request.go(f"{HERE}/members", f"{user.name} is {role} now.")

    async def invite(self, request: PageRequest) -> Response:
        invitations = self._there()
        try:
            _, code = await invitations.create(request.session.caller, request.form.get("role", ""))
        except HeliometerError as error:
            return request.wrong("members.html", error, **await self._context(request))
        link = f"{request.call.base_url}/console/invitation?code={code}"
        # Shown in this answer only: the code is not stored.
        return request.page("members.html", **{**await self._context(request), "link": link})

    async def withdraw(self, request: PageRequest) -> Response:
        try:
            await self._there().withdraw(request.session.caller, request.path("invitation_id"))
        except HeliometerError as error:
            return request.wrong("members.html", error, **await self._context(request))
        return request.go(f"{HERE}/members", "The invitation is withdrawn.")

    def _there(self) -> Invitations:
        assert self._invitations is not None
        return self._invitations

    async def remove(self, request: PageRequest) -> Response:
        caller = request.session.caller
        try:
            user = await self._administration.user(caller, request.path("user_id"))
            await self._administration.remove_role(caller, caller.project_id, user.id)
        except HeliometerError as error:
            return request.wrong("members.html", error, **await self._context(request))
        return request.go(f"{HERE}/members", f"{user.name} has left the project.")
