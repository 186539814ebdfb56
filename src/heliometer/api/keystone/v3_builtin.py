"""Identity v3 over the built-in identity."""

from typing import Any

from starlette.responses import Response

from heliometer.api.keystone.catalog import catalog_v3, own_catalog, stable_id
from heliometer.api.keystone.faults import reply
from heliometer.api.keystone.requests import (
    address,
    header,
    iso,
    links,
    read,
    refuse_method,
    signed_in,
    subject,
)
from heliometer.api.keystone.v3_body import DOMAIN, PasswordChange, SignIn, project_of, user_of
from heliometer.api.keystone.v3_people import project_document
from heliometer.core.errors import Malformed
from heliometer.http.operation import Call
from heliometer.identity.accounts import Issued, TokenOwner
from heliometer.identity.builtin.service import BuiltinIdentity


class BuiltinHandlers:
    """Implements ``v3`` with the built-in identity."""

    def __init__(self, identity: BuiltinIdentity, region: str) -> None:
        self._identity = identity
        self._region = region

    async def sign_in(self, call: Call) -> Response:
        auth = (await read(call, SignIn)).auth
        project = project_of(auth.scope)
        methods = set(auth.identity.methods)
        for method in methods - {"password", "token"}:
            raise refuse_method(method)
        if len(methods) != 1:
            raise Malformed("auth.identity.methods: exactly one method must be given.")
        if methods == {"password"}:
            issued = await self._by_password(call, auth.identity.password, project)
        elif auth.identity.token is None:
            raise Malformed("auth.identity: token must be given for the method token.")
        else:
            issued = await self._identity.authenticate_token(auth.identity.token.id, project)
        return self._token(call, issued.secret, issued.owner, 201)

    async def _by_password(self, call: Call, given: Any, project: str | None) -> Issued:
        if given is None:
            raise Malformed("auth.identity: password must be given for the method password.")
        return await self._identity.authenticate_password(
            user_of(given.user), given.user.password, address(call), project
        )

    async def validate(self, call: Call) -> Response:
        token = header(call, "x-subject-token")
        return self._token(call, token, await subject(self._identity, call, token))

    async def check(self, call: Call) -> Response:
        token = header(call, "x-subject-token")
        await subject(self._identity, call, token)
        return reply(vary=True, subject=token)

    async def revoke(self, call: Call) -> Response:
        token = header(call, "x-subject-token")
        await subject(self._identity, call, token)
        await self._identity.revoke(token)
        return reply(status=204, vary=True)

    async def projects(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        memberships = await self._identity.list_memberships(caller.user_id)
        body = {
            "projects": [project_document(call, membership.project) for membership in memberships],
            "links": links(call, "/auth/projects"),
        }
        return reply(body, vary=True)

    async def change_password(self, call: Call) -> Response:
        """The original password is what authorizes the change, as in Keystone: no token is needed,
        and an unknown user is refused as a wrong password is."""
        given = (await read(call, PasswordChange)).user
        await self._identity.change_password(
            call.path_params["user_id"], given.original_password, given.password, address(call)
        )
        return reply(status=204, vary=True)

    async def catalog(self, call: Call) -> Response:
        return await own_catalog(self._identity, call, self._region)

    async def domains(self, call: Call) -> Response:
        await signed_in(self._identity, call)
        # Roles belong to projects, so there is no domain to scope a token to.
        return reply({"domains": [], "links": links(call, "/auth/domains")}, vary=True)

    def _token(self, call: Call, secret: str, owner: TokenOwner, status: int = 200) -> Response:
        token: dict[str, Any] = {
            "methods": owner.token.methods,
            "user": {
                "id": owner.user.id,
                "name": owner.user.name,
                "domain": DOMAIN,
                "password_expires_at": None,
            },
            "audit_ids": owner.token.audit_ids,
            "issued_at": iso(owner.token.issued_at),
            "expires_at": iso(owner.token.expires_at),
        }
        if owner.membership is not None:
            project, role = owner.membership.project, owner.membership.role
            token["project"] = {"id": project.id, "name": project.name, "domain": DOMAIN}
            token["is_domain"] = False
            token["roles"] = [{"id": stable_id("role", role), "name": role}]
            if "nocatalog" not in call.request.query_params:
                token["catalog"] = catalog_v3(call.base_url, self._region)
        return reply({"token": token}, status, vary=True, subject=secret)
