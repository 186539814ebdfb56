"""Invitations to the project in v1.1's form; beyond the document."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.http.operation import Call, Operation
from heliometer.identity.invitations import Invitation, Invitations
from heliometer.identity.model import Permission, unauthenticated

PATH = "/v1.1/invitations"
BEYOND = "beyond the document"


class InvitationFields(msgspec.Struct, forbid_unknown_fields=True):
    """What an administrator decides."""

    role: str = "member"


class InvitationBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request to invite somebody."""

    invitation: InvitationFields


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """The user to make."""

    name: str
    password: str


class Acceptance(msgspec.Struct, forbid_unknown_fields=True):
    """A request to join: as the user of the token, or as a new one."""

    code: str
    user: NewUser | None = None


class InvitationOperations:
    """Inviting, withdrawing and accepting."""

    def __init__(self, invitations: Invitations) -> None:
        self._invitations = invitations

    def operations(self) -> tuple[Operation, ...]:
        """All of them; accepting needs no role."""
        administer = Permission.ADMINISTER
        return (
            Operation(
                "GET", "/invitations", "List the open invitations", BEYOND, self.list, administer,
            ),
            Operation(
                "POST", "/invitations", "Invite somebody to the project", BEYOND, self.create,
                administer, 201, (413, 415, 422), body=InvitationBody,
                example={"invitation": {"role": "member"}},
            ),
            Operation(
                "DELETE", "/invitations/{invitation_id}", "Withdraw an invitation", BEYOND,
                self.withdraw, administer, 204, (404,),
            ),
            Operation(
                "POST", "/invitations/accept", "Accept an invitation", BEYOND, self.accept, None,
                200, (401, 404, 409, 413, 415, 422), body=Acceptance,
                example={"code": "…", "user": {"name": "anna", "password": "a few words"}},
                knows_caller=True,
            ),
        )  # fmt: skip

    async def list(self, call: Call) -> Response:
        found = await self._invitations.list(call.caller)
        return wire.json_response({"invitations": [_document(i) for i in found]})

    async def create(self, call: Call) -> Response:
        role = (await wire.body(call, InvitationBody)).invitation.role
        made, code = await self._invitations.create(call.caller, role)
        url = f"{call.base_url}/console/invitation?code={code}"
        document = {**_document(made), "code": code, "url": url}
        return wire.created(call, f"{PATH}/{made.id}", {"invitation": document})

    async def withdraw(self, call: Call) -> Response:
        await self._invitations.withdraw(call.caller, call.path_params["invitation_id"])
        return Response(status_code=204)

    async def accept(self, call: Call) -> Response:
        given = await wire.body(call, Acceptance)
        if given.user is not None:
            joined = await self._invitations.accept_new(
                given.code, given.user.name, given.user.password
            )
        elif call.caller_or_none is not None:
            joined = await self._invitations.accept(call.caller_or_none, given.code)
        else:
            raise unauthenticated("Send a token, or the name and password of a new user.")
        return wire.json_response(
            {"project": {"id": joined.project_id, "name": joined.project_name},
             "role": joined.role}
        )  # fmt: skip


def _document(invitation: Invitation) -> Mapping[str, Any]:
    return {
        "id": invitation.id,
        "role": invitation.role,
        "created_by": invitation.created_by,
        "created_at": wire.iso(invitation.created_ms),
        "expires_at": wire.iso(invitation.expires_ms),
    }
