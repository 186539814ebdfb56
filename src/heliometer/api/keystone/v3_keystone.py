"""Identity v3 where users live in Keystone: requests are forwarded to it.

Every way to sign in that Keystone offers works here too: other domains, application credentials,
second factors. Only the catalog is ours.
"""

from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response

from heliometer.api.keystone.catalog import catalog_v3, own_catalog
from heliometer.api.keystone.faults import reply
from heliometer.api.keystone.requests import address, header, read
from heliometer.api.keystone.v3_body import PasswordChange
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import Call
from heliometer.identity.keystone.client import Answer, unavailable
from heliometer.identity.keystone.faults import receipt_of, refusal
from heliometer.identity.keystone.references import limiter_key
from heliometer.identity.keystone.service import KeystoneIdentity

RECEIPT = "OpenStack-Auth-Receipt"
RECEIPT_LENGTH = 4096


class Auth(Struct):
    identity: dict[str, Any]
    scope: dict[str, Any] | str | None = None


class SignIn(Struct):
    """``POST /auth/tokens``, as Keystone reads it."""

    auth: Auth


class KeystoneHandlers:
    """Implements ``v3`` by forwarding to Keystone."""

    def __init__(self, identity: KeystoneIdentity, region: str) -> None:
        self._identity = identity
        self._region = region

    async def sign_in(self, call: Call) -> Response:
        auth = (await read(call, SignIn)).auth
        document = {"auth": msgspec.to_builtins(auth)}
        if auth.scope is None:
            del document["auth"]["scope"]  # Keystone takes the user's default project, if any.
        receipt = header(call, RECEIPT)
        if len(receipt) > RECEIPT_LENGTH or not receipt.isascii():
            raise Malformed(f"{RECEIPT} is none of Keystone's.")
        answer = await self._identity.sign_in(
            document, _prover(auth.identity), address(call), receipt
        )
        if receipt_of(answer):
            response = _raw(answer)
            response.headers[RECEIPT] = receipt_of(answer)
            return response
        if answer.status != 201:
            raise refusal(answer)
        secret = answer.headers.get("x-subject-token", "")
        if not secret:
            raise unavailable()
        return self._token(call, answer, secret)

    async def validate(self, call: Call) -> Response:
        token = header(call, "x-subject-token")
        answer = await self._about("GET", call, token)
        return self._token(call, answer, token)

    async def check(self, call: Call) -> Response:
        token = header(call, "x-subject-token")
        await self._about("HEAD", call, token)
        return reply(vary=True, subject=token)

    async def revoke(self, call: Call) -> Response:
        token = header(call, "x-subject-token")
        try:
            await self._about("DELETE", call, token)
        finally:
            self._identity.forget(token)
        return reply(status=204, vary=True)

    async def projects(self, call: Call) -> Response:
        return await self._own(call, "/auth/projects")

    async def domains(self, call: Call) -> Response:
        return await self._own(call, "/auth/domains")

    async def change_password(self, call: Call) -> Response:
        given = (await read(call, PasswordChange)).user
        answer = await self._identity.change_password(
            call.path_params["user_id"], given.original_password, given.password, address(call)
        )
        if answer.status != 204:
            raise refusal(answer)
        return reply(status=204, vary=True)

    async def catalog(self, call: Call) -> Response:
        return await own_catalog(self._identity, call, self._region)

    async def _about(self, method: str, call: Call, token: str) -> Answer:
        if not token:
            raise HeliometerError(Code.NOT_FOUND, "X-Subject-Token must name one token.")
        answer = await self._identity.ask(
            method, "/auth/tokens?nocatalog", header(call, "x-auth-token"), token
        )
        if answer.status not in (200, 204):
            raise refusal(answer)
        return answer

    async def _own(self, call: Call, path: str) -> Response:
        answer = await self._identity.ask("GET", path, header(call, "x-auth-token"))
        if answer.status != 200:
            raise refusal(answer)
        return _raw(answer)

    def _token(self, call: Call, answer: Answer, secret: str) -> Response:
        document = answer.read(_Reply)
        if "project" in document.token and "nocatalog" not in call.request.query_params:
            document.token["catalog"] = catalog_v3(call.base_url, self._region)
        return reply(document, answer.status, vary=True, subject=secret)


class _Reply(Struct):
    token: dict[str, Any]


def _raw(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, media_type="application/json")
    response.headers["Vary"] = "X-Auth-Token"
    return response


def _prover(identity: dict[str, Any]) -> str | None:
    """The user whose failed sign-ins are counted; ``None`` for a token."""
    if identity.get("methods") == ["token"]:
        return None
    for method in ("password", "totp", "application_credential"):
        given = identity.get(method)
        if isinstance(given, dict):
            by_id = method == "application_credential" and "user" not in given
            return limiter_key(given if by_id else given.get("user"))
    return "?"
