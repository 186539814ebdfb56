"""Who sends, as programs say it that know nothing of X-Auth-Token."""

import base64
import binascii
from typing import NamedTuple

from starlette.requests import Request

from heliometer.core.errors import Code, HeliometerError

LENGTH = 8192


class Password(NamedTuple):
    """A user's name and password."""

    user: str
    password: str


def read_credentials(request: Request) -> str | Password | None:
    """A token, or a password, or nothing.

    ``Authorization: Bearer TOKEN``, ``Basic`` (RFC 7617), and InfluxDB's own ways: ``Token TOKEN``,
    ``Token USER:PASSWORD``, and the parameters ``u`` and ``p``. Raises UNAUTHENTICATED for what
    cannot be read.
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
