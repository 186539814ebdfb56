"""Identity v2.0, with which the monitoring documents sign in (v1.1 §3.1)."""

from typing import Any

from msgspec import Struct
from starlette.responses import Response

from heliometer.api.keystone import replies, versions
from heliometer.api.keystone.catalog import catalog_v2
from heliometer.api.keystone.faults import challenged, render_fault, reply
from heliometer.api.keystone.requests import address, header, iso, read, subject
from heliometer.api.services import Services
from heliometer.core.errors import Malformed
from heliometer.http.operation import Call, Dialect, Operation
from heliometer.identity.accounts import Project, TokenOwner
from heliometer.identity.ports import Identity

SIGN_IN = "HP Monitoring v1.1 §3.1"
SOURCE = "Keystone v2.0"
EXAMPLE = {
    "auth": {
        "tenantName": "demo",
        "passwordCredentials": {"username": "demo", "password": "secret"},
    }
}


class PasswordCredentials(Struct, rename="camel"):
    password: str
    username: str | None = None
    user_id: str | None = None


class TokenCredentials(Struct):
    id: str


class Auth(Struct, rename="camel"):
    tenant_name: str | None = None
    tenant_id: str | None = None
    password_credentials: PasswordCredentials | None = None
    token: TokenCredentials | None = None


class SignIn(Struct):
    """``POST /tokens``. Without a tenant the token is unscoped."""

    auth: Auth


def dialect(services: Services) -> Dialect:
    """The dialect at ``/identity/v2.0``, for either kind of identity."""
    handlers = _Handlers(services.identity, services.settings.identity.region)

    def operation(
        method: str, path: str, summary: str, handler: Any, source: str = SOURCE, **more: Any
    ) -> Operation:
        return Operation(method, path, summary, source, challenged(handler, "v2.0"), **more)

    token = "/tokens/{token_id}"
    return Dialect(
        name="identity-v2.0",
        title="Identity v2.0 (Keystone-compatible)",
        prefix="/identity/v2.0",
        operations=(
            versions.version_document("v2.0"),
            operation(
                "POST",
                "/tokens",
                "Sign in",
                handlers.sign_in,
                SIGN_IN,
                faults=(400, 401, 429),
                body=SignIn,
                example=EXAMPLE,
            ),
            operation("GET", token, "Validate a token", handlers.validate, faults=(401, 403, 404)),
            operation("HEAD", token, "Check a token", handlers.check, faults=(401, 403, 404)),
            operation(
                "DELETE",
                token,
                "Revoke a token",
                handlers.revoke,
                success=204,
                faults=(401, 403, 404),
            ),
            operation("GET", "/tenants", "List my projects", handlers.tenants, faults=(401,)),
        ),
        render_fault=render_fault,
        replies=replies.V2_0,
        fault=replies.FAULT,
    )


class _Handlers:
    def __init__(self, identity: Identity, region: str) -> None:
        self._identity = identity
        self._region = region

    async def sign_in(self, call: Call) -> Response:
        auth = (await read(call, SignIn)).auth
        if auth.tenant_id and auth.tenant_name:
            raise Malformed("auth: tenantId and tenantName exclude each other.")
        # The documents put a project's id into tenantName, so each field takes both.
        project = auth.tenant_id or auth.tenant_name or None
        given = auth.password_credentials
        if given is not None and auth.token is not None:
            raise Malformed("auth: passwordCredentials and token exclude each other.")
        if given is not None:
            user = given.user_id or given.username
            if not user or (given.user_id and given.username):
                raise Malformed(
                    "auth.passwordCredentials: either username or userId must be given."
                )
            issued = await self._identity.authenticate_password(
                user, given.password, address(call), project
            )
        elif auth.token is not None:
            issued = await self._identity.authenticate_token(auth.token.id, project)
        else:
            raise Malformed("auth: passwordCredentials or token must be given.")
        return self._access(call, issued.secret, issued.owner)

    async def validate(self, call: Call) -> Response:
        token = call.path_params["token_id"]
        return self._access(call, token, await subject(self._identity, call, token))

    async def check(self, call: Call) -> Response:
        await subject(self._identity, call, call.path_params["token_id"])
        return reply(vary=True)

    async def revoke(self, call: Call) -> Response:
        token = call.path_params["token_id"]
        await subject(self._identity, call, token)
        await self._identity.revoke(token)
        return reply(status=204, vary=True)

    async def tenants(self, call: Call) -> Response:
        memberships = await self._identity.memberships(header(call, "x-auth-token"))
        projects = [membership.project for membership in memberships]
        body = {"tenants": [_tenant(p) for p in projects], "tenants_links": []}
        return reply(body, vary=True)

    def _access(self, call: Call, secret: str, owner: TokenOwner) -> Response:
        token: dict[str, Any] = {
            "id": secret,
            "issued_at": iso(owner.token.issued_at, "milliseconds"),
            "expires": iso(owner.token.expires_at, "milliseconds"),
            "audit_ids": owner.token.audit_ids,
        }
        roles: list[dict[str, str]] = []
        catalog: list[Any] = []
        if owner.membership is not None:
            project = owner.membership.project
            token["tenant"] = _tenant(project)
            roles = [{"name": owner.membership.role}] if owner.membership.role else []
            catalog = catalog_v2(call.base_url, self._region, project.id)
        user = {
            "id": owner.user.id,
            "name": owner.user.name,
            "username": owner.user.name,
            "roles": roles,
            "roles_links": [],
        }
        response = reply(
            {"access": {"token": token, "user": user, "serviceCatalog": catalog}}, vary=True
        )
        response.headers["Cache-Control"] = "no-store"
        return response


def _tenant(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "enabled": project.enabled,
        "description": "",
    }
