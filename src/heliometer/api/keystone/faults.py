"""Faults and replies in Keystone's form."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import STATUS, Call

Handler = Callable[[Call], Awaitable[Response]]

TITLES = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}
"""Phrases that differ between versions of Python."""


def render_fault(error: HeliometerError, _request_id: str) -> Response:
    """``{"error": {"code", "message", "title"}}``, with ``Retry-After`` where it helps."""
    # Keystone has no 422: invalid input is a bad request there.
    status = 400 if error.code is Code.INVALID else STATUS[error.code]
    fault = {
        "code": status,
        "message": f"{error.message} {error.details}".strip(),
        "title": TITLES.get(status) or HTTPStatus(status).phrase,
    }
    response = reply({"error": fault}, status)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def challenged(handler: Handler, version: str) -> Handler:
    """Adds the sign-in URL to a 401, as Keystone does."""

    async def answer(call: Call) -> Response:
        try:
            return await handler(call)
        except HeliometerError as error:
            if error.code is not Code.UNAUTHENTICATED:
                raise
            response = render_fault(error, call.request_id)
            uri = f"{call.base_url}/identity/{version}"
            response.headers["WWW-Authenticate"] = f'Keystone uri="{uri}"'
            response.headers["Vary"] = "X-Auth-Token"
            return response

    return answer


def reply(
    body: Any = None, status: int = 200, *, vary: bool = False, subject: str = ""
) -> Response:
    """A JSON reply. ``vary``: it depends on the token; ``subject``: the token it describes."""
    response = Response(
        b"" if body is None else msgspec.json.encode(body),
        status,
        media_type=None if body is None else "application/json",
    )
    if vary:
        response.headers["Vary"] = "X-Auth-Token"
    if subject:
        response.headers["X-Subject-Token"] = subject
        response.headers["Cache-Control"] = "no-store"
    return response
