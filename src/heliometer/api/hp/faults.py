"""Faults of the HP dialects (v1.1 §2.6, v1.0 §2.2)."""

from starlette.responses import Response

from heliometer.api.hp.wire import json_response
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import STATUS

ELEMENTS: dict[Code, str] = {
    Code.MALFORMED: "bad_request",
    Code.UNAUTHENTICATED: "unauthorized",
    Code.FORBIDDEN: "forbidden",
    Code.NOT_FOUND: "not_found",
    Code.METHOD_NOT_ALLOWED: "method_not_allowed",
    Code.NOT_ACCEPTABLE: "not_acceptable",
    Code.CONFLICT: "conflict",
    Code.TOO_LARGE: "request_too_large",
    Code.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    Code.INVALID: "unprocessable_entity",
    Code.RATE_LIMITED: "rate_limited",
    Code.HEADERS_TOO_LARGE: "request_too_large",
    Code.INTERNAL: "server_error",
}


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """The documented fault element, or for 503 the form that load balancers use (§2.6.1)."""
    status = STATUS[error.code]
    if error.code is Code.UNAVAILABLE:
        text = f"{error.message} {error.details}".strip()
        body: object = {"fault": {"faultstring": text, "detail": {"errorcode": "unavailable"}}}
        return json_response(body, status)
    fault = {"code": status, "message": error.message}
    if error.details:
        fault["details"] = error.details
    fault["internal_code"] = request_id
    return json_response({ELEMENTS[error.code]: fault}, status)
