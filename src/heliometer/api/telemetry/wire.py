"""What all of Telemetry v2 shares: faults, times and pages."""

from datetime import UTC, datetime
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import STATUS, Call
from heliometer.http.paging import NumberedPage, same_request
from heliometer.identity.model import Caller

CONTENT_TYPE = "application/json; charset=utf-8"
ROW_BYTES = 1024
"""About the memory of an alarm."""
PER_PAGE = 100
MOST_PER_PAGE = 1000
NOT_AUTHORIZED = "Not authorized to access project."
MESSAGES = {
    Code.UNAUTHENTICATED: "The request you have made requires authentication.",
    Code.INTERNAL: "The request processing has failed due to some unknown error, exception or "
    "failure",
}
"""Messages that the documents dictate (004 and 002, Response Code)."""


def render_fault(error: HeliometerError, _: str) -> Response:
    """The form of every error in v2."""
    # Its documents have no 422: invalid input is a bad request.
    status = STATUS[Code.MALFORMED if error.code is Code.INVALID else error.code]
    message = f"{error.message} {error.details}".strip()
    if error.message != NOT_AUTHORIZED:
        message = MESSAGES.get(error.code, message)
    body = {"error": {"code": status, "message": message, "title": HTTPStatus(status).phrase}}
    return reply(body, status)


def reply(body: object, status: int = 200) -> Response:
    """JSON, with the documented Content-Type."""
    return Response(msgspec.json.encode(body), status, media_type=CONTENT_TYPE)


def iso(milliseconds: int) -> str:
    """A time as Ceilometer writes it: UTC without a zone, with a fraction where there is one."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds")


def check_project(caller: Caller, project_id: str) -> None:
    """Raise the documented 401 unless it is the caller's project."""
    if project_id.replace("-", "").lower() != caller.project_id:
        raise HeliometerError(Code.UNAUTHENTICATED, NOT_AUTHORIZED)


def number(call: Call, name: str, default: int, most: int) -> int:
    """A parameter that is a whole number from 1 to ``most``. Raises MALFORMED."""
    text = call.request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise Malformed(f"Invalid {name}. {name} must be a whole number from 1 to {most}.")
    return int(text)


def page_headers(call: Call, page: NumberedPage) -> dict[str, str]:
    """The headers Per-Page, Link and Total (004, Response Header)."""
    places: dict[str, int] = {}
    if page.number < page.last:
        places |= {"next": page.number + 1, "last": page.last}
    if page.number > 1:
        places |= {"prev": min(page.number - 1, page.last), "first": 1}
    path = call.request.url.path.rstrip("/")
    links = [
        f'<{same_request(call, path, page=at, per_page=page.size)}>; rel="{rel}"'
        for rel, at in places.items()
    ]
    headers = {"Per-Page": str(page.size), "Total": str(page.total)}
    return headers | ({"Link": ", ".join(links)} if links else {})
