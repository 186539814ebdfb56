"""Reads tokens and passwords from requests, however a client sends them."""

import base64
import binascii
from typing import NamedTuple

from starlette.requests import Request

from heliometer.core.errors import Code, HeliometerError

LENGTH = 8192
"""Most characters of a token or an Authorization header."""


class Password(NamedTuple):
    """A user name with its password."""

    user: str
    password: str


def read_token(request: Request) -> str:
    """The value of X-Auth-Token. Raises UNAUTHENTICATED unless there is exactly one."""
    tokens = [value for name, value in request.scope["headers"] if name == b"x-auth-token"]
    if len(tokens) != 1 or not 0 < len(tokens[0]) <= LENGTH or not tokens[0].isascii():
        raise HeliometerError(
            Code.UNAUTHENTICATED,
            "A valid token is required."
            if not tokens
            else "X-Auth-Token must be given once, and hold a token.",
            details="Get one with POST /identity/v2.0/tokens or POST /identity/v3/auth/tokens, "
            "and send it as X-Auth-Token.",
        )
    token: str = tokens[0].decode("ascii")
    return token


def read_credentials(request: Request) -> str | Password | None:
    """A token, a password, or ``None``, from clients that do not send X-Auth-Token.

    ``Authorization: Bearer TOKEN``, ``Basic`` (RFC 7617), and InfluxDB's own ways: ``Token TOKEN``,
    ``Token USER:PASSWORD``, and the parameters ``u`` and ``p``. Raises UNAUTHENTICATED for
    anything else in that header.
    """
    headers = request.headers.getlist("authorization")
    if not headers:
        query = request.query_params
        if query.get("u"):
            return Password(query["u"], query.get("p", ""))
        return None
    scheme, _, rest = headers[0].strip().partition(" ")
    given = rest.strip()
    if len(headers) > 1 or not 0 < len(given) <= LENGTH or not given.isascii():
        raise _unreadable("Authorization must be given once, and hold something.")
    kind = scheme.lower()
    if kind == "basic":
        try:
            text = base64.b64decode(given, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _unreadable("Authorization: what follows Basic is not Base64.") from error
        user, colon, password = text.partition(":")
        if not colon:
            raise _unreadable("Authorization: Basic must hold user:password.")
        return Password(user, password)
    if kind == "token" and ":" in given:
        user, _, password = given.partition(":")
        return Password(user, password)
    if kind in ("bearer", "token"):
        return given
    raise _unreadable(f"Authorization: {scheme[:20]!r} is not understood.")


def _unreadable(message: str) -> HeliometerError:
    return HeliometerError(
        Code.UNAUTHENTICATED,
        message,
        details="Send Basic with a user and its password, or Bearer with a token.",
    )
