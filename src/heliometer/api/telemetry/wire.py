"""Reading and writing what the operations of Telemetry v2 share: faults, times, pages."""

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import STATUS, Call
from heliometer.identity.model import Caller

PER_PAGE = 100
MOST_PER_PAGE = 1000
NOT_AUTHORIZED = "Not authorized to access project."
MESSAGES = {
    Code.UNAUTHENTICATED: "The request you have made requires authentication.",
    Code.INTERNAL: "The request processing has failed due to some unknown error, exception or "
    "failure",
}
"""What the documents word themselves (004 and 002, Response Code)."""


def render_fault(error: HeliometerError, _: str) -> Response:
    """Every error of v2 has this one form."""
    # Its documents have no 422: what breaks a rule is a bad request.
    status = STATUS[Code.MALFORMED if error.code is Code.INVALID else error.code]
    message = f"{error.message} {error.details}".strip()
    if error.message != NOT_AUTHORIZED:
        message = MESSAGES.get(error.code, message)
    body = {"error": {"code": status, "message": message, "title": HTTPStatus(status).phrase}}
    return reply(body, status)


def reply(body: object, status: int = 200) -> Response:
    """JSON, with the documented Content-Type."""
    return Response(msgspec.json.encode(body), status, media_type="application/json; charset=utf-8")


def iso(milliseconds: int) -> str:
    """A time as Ceilometer writes it: UTC without a zone, with a fraction where there is one."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds")


def check_project(caller: Caller, project_id: str) -> None:
    """Raise the documented 401 for another project than the caller's."""
    if project_id.replace("-", "").lower() != caller.project_id:
        raise HeliometerError(Code.UNAUTHENTICATED, NOT_AUTHORIZED)


def number(call: Call, name: str, default: int, most: int) -> int:
    """A whole number from 1 on out of the query string."""
    text = call.request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise Malformed(f"Invalid {name}. {name} must be a whole number from 1 to {most}.")
    return int(text)


def paged(call: Call, found: Sequence[Any], page: int, per_page: int) -> dict[str, str]:
    """The headers Per-Page, Link and Total (004, Response Header)."""
    total = len(found)
    last = max(1, -(-total // per_page))
    places: dict[str, int] = {}
    if page < last:
        places |= {"next": page + 1, "last": last}
    if page > 1:
        places |= {"prev": min(page - 1, last), "first": 1}
    kept = [
        (name, value)
        for name, value in call.request.query_params.multi_items()
        if name not in ("page", "per_page")
    ]
    url = f"{call.base_url}{call.request.url.path.rstrip('/')}"
    links = [
        f'<{url}?{urlencode([*kept, ("page", at), ("per_page", per_page)])}>; rel="{rel}"'
        for rel, at in places.items()
    ]
    headers = {"Per-Page": str(per_page), "Total": str(total)}
    return headers | ({"Link": ", ".join(links)} if links else {})
