"""What requests of both versions share: bodies, tokens and times."""

import re
from datetime import UTC, datetime
from typing import Any, TypeVar

from heliometer.core.errors import Code, HeliometerError
from heliometer.http.documents import read_typed
from heliometer.http.operation import Call
from heliometer.identity.accounts import TokenOwner
from heliometer.identity.model import Caller, Permission, unauthenticated
from heliometer.identity.ports import Identity

XML = re.compile(r"\bxml\b|\+xml\b", re.IGNORECASE)

T = TypeVar("T")


async def read(call: Call, type_: type[T]) -> T:
    """The body as a value of a msgspec type. Raises MALFORMED, UNSUPPORTED_MEDIA_TYPE for XML."""
    if XML.search(call.request.headers.get("content-type", "")):
        raise HeliometerError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "XML is not understood.",
            details="Send JSON, with Content-Type: application/json.",
        )
    return await read_typed(call, type_)


def header(call: Call, name: str) -> str:
    """The value of a header; empty if it is absent or repeated."""
    values = call.request.headers.getlist(name)
    return values[0] if len(values) == 1 else ""


def address(call: Call) -> str | None:
    """The client's IP address."""
    return call.request.client.host if call.request.client else None


async def signed_in(identity: Identity, call: Call) -> Caller:
    """The caller by X-Auth-Token. Raises UNAUTHENTICATED."""
    return await identity.authenticate(header(call, "x-auth-token"))


async def subject(identity: Identity, call: Call, token: str) -> TokenOwner:
    """The owner of the token that a request concerns.

    Raises UNAUTHENTICATED if the caller's own token is invalid, NOT_FOUND if the other is, and
    FORBIDDEN if it belongs to another user and the caller is no operator.
    """
    caller = await signed_in(identity, call)
    try:
        owner = await identity.validate(token)
    except HeliometerError as error:
        if error.code is not Code.UNAUTHENTICATED:
            raise
        reason = "Could not find the token." if token else "X-Subject-Token must name one token."
        raise HeliometerError(Code.NOT_FOUND, reason) from error
    if owner.user.id != caller.user_id and Permission.OPERATE not in caller.permissions:
        raise HeliometerError(
            Code.FORBIDDEN,
            "You are not authorized to see or revoke the tokens of other users.",
            details="Use a token of that user, or one of an operator.",
        )
    return owner


def refuse_method(method: str) -> HeliometerError:
    """The fault for an authentication method that is not offered."""
    return unauthenticated(
        f"Attempted to authenticate with an unsupported method: {method[:40]!r}. "
        "Supported are password and token."
    )


def iso(milliseconds: int, digits: str = "microseconds") -> str:
    """A time as ISO 8601 with a Z; ``digits`` is ``milliseconds`` or ``microseconds``."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")


def links(call: Call, path: str) -> dict[str, Any]:
    """The ``links`` of a v3 list, which has one page."""
    return {"self": f"{call.base_url}/identity/v3{path}", "previous": None, "next": None}
