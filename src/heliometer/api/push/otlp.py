"""OpenTelemetry's metrics over HTTP (OTLP 1.x), protobuf and JSON."""

from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from starlette.requests import Request
from starlette.responses import Response

from heliometer.api.push.otlp_decoding import decode, take
from heliometer.api.push.receiver import PROJECT, Receiver
from heliometer.api.services import Services
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import STATUS, Call, Dialect, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.service import Metrics

NAMESPACE = "otlp"
"""The namespace of the series unless the URL names another."""
INLINE_BYTES = 32 << 10
JSON, PROTOBUF = "application/json", "application/x-protobuf"
_CODES = {
    Code.MALFORMED: 3, Code.INVALID: 3, Code.UNAUTHENTICATED: 16, Code.FORBIDDEN: 7,
    Code.NOT_FOUND: 5, Code.CONFLICT: 9, Code.RATE_LIMITED: 8, Code.TOO_LARGE: 3,
    Code.UNAVAILABLE: 14, Code.INTERNAL: 13,
}  # fmt: skip
"""The gRPC codes in OTLP's errors."""


def dialect(services: Services) -> Dialect:
    """The dialect at ``/v1/metrics``."""
    return Dialect(
        "otlp",
        "OpenTelemetry metrics (OTLP/HTTP)",
        "/v1",
        OtlpExport(services.metrics).operations(),
        render_fault,
        ("/otlp/v1",),
        replies={"POST /metrics": dict[str, Any]},
        fault=dict[str, Any],
        render_fault_of=render_fault_of,
    )


class OtlpExport:
    """Stores exported metrics, and reports rejected points as a partial success."""

    def __init__(self, metrics: Metrics) -> None:
        self._receiver = Receiver(metrics, "otlp", INLINE_BYTES)

    def operations(self) -> tuple[Operation, ...]:
        """The one operation of OTLP's metrics service."""
        return (
            Operation(
                "POST", "/metrics", "Export metrics", "OTLP 1.x, OTLP/HTTP", self.export,
                Permission.POST_METRICS, 200, (413, 415),
                (
                    Parameter("namespace", f"Namespace of the series; {NAMESPACE} without."),
                    PROJECT,
                ),
                foreign=True,
            ),
        )  # fmt: skip

    async def export(self, call: Call) -> Response:
        headers = call.request.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, PROTOBUF):
            raise HeliometerError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type {kind[:80]!r} is not supported.",
                details=f"Send {PROTOBUF} or {JSON}.",
            )
        given = call.request.query_params.get("namespace", NAMESPACE)
        project, namespace = await self._receiver.destination(call, given)
        body = await call.body()
        intake = self._receiver.intake(project)
        await self._receiver.decode(
            call, body, lambda: take(decode(body, is_json=kind == JSON), namespace, intake)
        )
        await self._receiver.store(intake, intake.columns(), body, namespace)
        answer = ExportMetricsServiceResponse()
        if intake.complaint:
            answer.partial_success.rejected_data_points = intake.left_out
            answer.partial_success.error_message = intake.complaint
        return _response(answer, kind, 200)


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """A Status in JSON, for requests whose form is not known."""
    return _fault(error, JSON, request_id)


def render_fault_of(error: HeliometerError, request_id: str, request: Request) -> Response:
    """A Status in the form of the request."""
    sent = request.headers.get("content-type", "")
    return _fault(error, PROTOBUF if "protobuf" in sent else JSON, request_id)


def _fault(error: HeliometerError, kind: str, request_id: str) -> Response:
    text = f"{error.message} {error.details}".strip()
    code = _CODES.get(error.code, 3)
    status = STATUS[error.code]
    if kind == JSON:
        document = {"code": code, "message": f"{text} ({request_id})"}
        return Response(msgspec.json.encode(document), status, media_type=JSON)
    # google.rpc.Status: field 1 is the code, field 2 the message.
    message = f"{text} ({request_id})".encode()[:16_000]
    size = bytes([len(message) & 0x7F | 0x80, len(message) >> 7])
    return Response(b"\x08" + bytes([code]) + b"\x12" + size + message, status, media_type=PROTOBUF)


def _response(message: Message, kind: str, status: int) -> Response:
    if kind == JSON:
        return Response(json_format.MessageToJson(message, indent=None), status, media_type=JSON)
    return Response(message.SerializeToString(), status, media_type=PROTOBUF)
