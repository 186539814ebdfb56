"""Telemetry v2 (Ceilometer's reporting API): so far its faults and the health check."""

from http import HTTPStatus

import msgspec
from starlette.responses import Response

from heliometer.http.operation import STATUS, Call, Dialect, Operation
from heliometer.model.errors import HeliometerError
from heliometer.usecases.health import Health


def render_fault(error: HeliometerError, _: str) -> Response:
    """Every error of v2 has this one form."""
    status = STATUS[error.code]
    message = f"{error.message} {error.details}".strip()
    body = {"error": {"code": status, "message": message, "title": HTTPStatus(status).phrase}}
    return _json(body, status)


def dialect(health: Health) -> Dialect:
    """The dialect over these use cases."""

    async def alive(_: Call) -> Response:
        return Response(status_code=204)

    async def healthy(_: Call) -> Response:
        failed = await health.failed()
        if not failed:
            return _json({"status": "ok"}, 200)
        names = ", ".join(failed)
        error = {"code": 503, "message": f"Failed: {names}.", "title": "Service Unavailable"}
        return _json({"error": error, "failed": failed}, 503)

    return Dialect(
        "telemetry-v2",
        "Telemetry v2",
        "/v2",
        (
            Operation("HEAD", "/health", "Check that the API runs", "Health Check API", alive,
                      success=204),
            Operation("GET", "/health", "Check the API and its back-ends", "Health Check API",
                      healthy, faults=(503,)),
        ),
        render_fault,
    )  # fmt: skip


def _json(body: object, status: int) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
