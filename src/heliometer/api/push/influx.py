"""InfluxDB's writes, as its versions 1 (``/write``) and 2 (``/api/v2/write``) take them."""

import re

import msgspec
from starlette.responses import Response

from heliometer.api.push.line_protocol import FORM, read
from heliometer.api.push.receiver import PROJECT, Receiver
from heliometer.api.services import Services
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import STATUS, Call, Dialect, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.service import Metrics

PRECISIONS = {
    "n": (1, 1_000_000), "ns": (1, 1_000_000), "u": (1, 1000), "us": (1, 1000), "µ": (1, 1000),
    "ms": (1, 1), "s": (1000, 1), "m": (60_000, 1), "h": (3_600_000, 1),
}  # fmt: skip
"""Milliseconds per unit of timestamps, as a fraction."""
INLINE_BYTES = 32 << 10
VERSION = "1.8.10"
"""The version of InfluxDB that is reported to clients."""


def dialect(services: Services) -> Dialect:
    """The dialect at ``/write`` and ``/api/v2/write``."""
    return Dialect(
        "influx",
        "InfluxDB line protocol",
        "/api/v2",
        InfluxWrite(services.metrics).operations(),
        render_fault,
        ("",),
        fault=dict[str, str],
    )


class InfluxWrite:
    """Stores points, and answers pings as InfluxDB does."""

    def __init__(self, metrics: Metrics) -> None:
        self._receiver = Receiver(metrics, FORM, INLINE_BYTES)

    def operations(self) -> tuple[Operation, ...]:
        """Writing points, and the ping by which clients find the version."""
        return (
            Operation(
                "POST", "/write", "Write points", "InfluxDB 1.8 and 2.x API, line protocol",
                self.write, Permission.POST_METRICS, 204, (413, 415),
                (
                    Parameter("db", "Namespace of the series (version 1)."),
                    Parameter("bucket", "The same (version 2)."),
                    Parameter(
                        "precision", "Unit of timestamps: ns, us, ms, s, m or h; ns without."
                    ),
                    PROJECT,
                ),
                foreign=True,
            ),
            Operation(
                "GET", "/ping", "Say that the service is there", "InfluxDB 1.8 and 2.x API",
                self.ping, success=204, foreign=True,
            ),
        )  # fmt: skip

    async def write(self, call: Call) -> Response:
        query = call.request.query_params
        database = query.get("bucket") or query.get("db")
        if not database:
            raise Malformed("database is required", details="Say ?db=NAME, or ?bucket=NAME.")
        precision = query.get("precision") or "ns"
        if precision not in PRECISIONS:
            raise Malformed(
                f"precision: {precision[:20]!r} is none.",
                details=f"Any of {', '.join(PRECISIONS)}.",
            )
        project, namespace = await self._receiver.destination(call, database)
        body = await call.body()
        intake = self._receiver.intake(project)
        unit = PRECISIONS[precision]
        await self._receiver.decode(call, body, lambda: read(body, namespace, unit, intake))
        await self._receiver.store(intake, intake.columns(), body, f"{precision} {namespace}")
        if intake.complaint:
            raise Malformed(f"partial write: {intake.complaint} dropped={intake.left_out}")
        return Response(status_code=204, headers={"X-Influxdb-Version": VERSION})

    async def ping(self, _: Call) -> Response:
        return Response(status_code=204, headers={"X-Influxdb-Version": VERSION})


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """Version 1's ``error`` and version 2's ``code`` and ``message`` in one document."""
    codes = {
        Code.UNAUTHENTICATED: "unauthorized", Code.FORBIDDEN: "forbidden",
        Code.NOT_FOUND: "not found", Code.TOO_LARGE: "request too large",
        Code.RATE_LIMITED: "too many requests", Code.UNAVAILABLE: "unavailable",
        Code.INTERNAL: "internal error",
    }  # fmt: skip
    text = f"{error.message} {error.details}".strip()
    document = {
        "error": text, "code": codes.get(error.code, "invalid"), "message": text, "id": request_id
    }  # fmt: skip
    return Response(
        msgspec.json.encode(document),
        STATUS[error.code],
        headers={"X-Influxdb-Error": re.sub(r"[^ -~]", "?", text)[:200]},
        media_type="application/json",
    )
