"""OpenTelemetry's metrics over HTTP (OTLP 1.x), protobuf and JSON."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from starlette.requests import Request
from starlette.responses import Response

from heliometer.api.push.intake import Intake
from heliometer.api.push.naming import MOST_LABELS, name_of, namespace_of
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import STATUS, Call, Dialect, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.service import Metrics

NAMESPACE = "otlp"
"""Unless the URL names another."""
LEFT_OUT = ("telemetry.", "process.", "os.")
"""Resource attributes that say how something runs, not what it is."""
INSTANCE, PROCESS, SCOPE = "service.instance.id", "process.pid", "otel.scope.name"
AT_ONCE = 32 << 10
"""Bytes of a request from which on it is read in a thread."""
JSON, PROTOBUF = "application/json", "application/x-protobuf"
NO_VALUE = 1
"""The flag of a data point that has none."""
_CODES = {
    Code.MALFORMED: 3, Code.INVALID: 3, Code.UNAUTHENTICATED: 16, Code.FORBIDDEN: 7,
    Code.NOT_FOUND: 5, Code.CONFLICT: 9, Code.RATE_LIMITED: 8, Code.TOO_LARGE: 3,
    Code.UNAVAILABLE: 14, Code.INTERNAL: 13,
}  # fmt: skip
"""gRPC's codes, which OTLP's errors carry."""

Pairs = list[tuple[str, str]]


def dialect(metrics: Metrics) -> Dialect:
    """The dialect over the use cases of metrics."""

    async def export(call: Call) -> Response:
        headers = call.request.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, PROTOBUF):
            raise HeliometerError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type {kind[:80]!r} is not supported.",
                details=f"Send {PROTOBUF} or {JSON}.",
            )
        project = await metrics.target(call.caller, headers.get("x-tenant-id"))
        namespace = namespace_of(
            call.request.query_params.get("namespace", NAMESPACE),
            reserved_allowed=Permission.POST_RESERVED in call.caller.permissions,
        )
        body = await call.body()
        intake = Intake(project, "otlp", metrics.now_ms())

        def read() -> None:
            _take_request(_decode(body, kind), namespace, intake)

        # Reading takes long, beside what storing does: others are answered meanwhile.
        await (asyncio.to_thread(read) if len(body) > AT_ONCE else _at_once(read))
        await intake.store(metrics, intake.columns(), body, f"otlp {namespace}")
        answer = ExportMetricsServiceResponse()
        if intake.complaint:
            answer.partial_success.rejected_data_points = intake.left_out
            answer.partial_success.error_message = intake.complaint
        return _response(answer, kind, 200)

    return Dialect(
        "otlp",
        "OpenTelemetry metrics (OTLP/HTTP)",
        "/v1",
        (
            Operation(
                "POST", "/metrics", "Export metrics", "OTLP 1.x, OTLP/HTTP", export,
                Permission.POST_METRICS, 200, (413, 415),
                (
                    Parameter("namespace", f"Namespace of the series; {NAMESPACE} without."),
                    Parameter("project", "With a password: the project, by name or id."),
                ),
                foreign=True,
            ),
        ),
        render_fault,
        ("/otlp/v1",),
        render_fault_of=render_fault_of,
    )  # fmt: skip


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """A Status; as JSON where what was sent is not known."""
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
    # google.rpc.Status: 1 is the code, 2 the message. Two fields need no generated module.
    message = f"{text} ({request_id})".encode()[:16_000]
    size = bytes([len(message) & 0x7F | 0x80, len(message) >> 7])
    return Response(b"\x08" + bytes([code]) + b"\x12" + size + message, status, media_type=PROTOBUF)


def _response(message: Message, kind: str, status: int) -> Response:
    if kind == JSON:
        return Response(json_format.MessageToJson(message, indent=None), status, media_type=JSON)
    return Response(message.SerializeToString(), status, media_type=PROTOBUF)


def _decode(body: bytes, kind: str) -> Any:
    request = ExportMetricsServiceRequest()
    try:
        if kind == JSON:
            return json_format.Parse(body, request, ignore_unknown_fields=True)
        request.ParseFromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        why = f": {' '.join(str(error).split())[:200]}" if kind == JSON else ""
        raise Malformed(f"The body is not an ExportMetricsServiceRequest{why}.") from error
    return request


def _take_request(request: Any, namespace: str, intake: Intake) -> None:
    for resource in request.resource_metrics:
        given = _pairs(resource.resource.attributes)
        shared = [pair for pair in given if not pair[0].startswith(LEFT_OUT)]
        if not any(key == INSTANCE for key, _ in given):
            # Two processes of a service must not become one series.
            shared += [pair for pair in given if pair[0] == PROCESS]
        for scope in resource.scope_metrics:
            name = [(SCOPE, scope.scope.name)] if scope.scope.name else []
            for metric in scope.metrics:
                _take_metric(metric, [*shared, *name], namespace, intake)


def _take_metric(metric: Any, shared: Pairs, namespace: str, intake: Intake) -> None:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    for point in getattr(metric, kind).data_points:
        if point.flags & NO_VALUE:
            continue
        if len(shared) + len(point.attributes) > MOST_LABELS:
            intake.leave_out(f"there are more than {MOST_LABELS} attributes.")
            continue
        pairs = _merged(_pairs(point.attributes), shared)
        nanoseconds = point.time_unix_nano
        stamp = nanoseconds // 1_000_000 if nanoseconds else None
        for suffix, extra, value in _VALUES[kind](point):
            name = partial(name_of, namespace, metric.name + suffix, [*extra, *pairs])
            intake.add(namespace, None, name, stamp, value)


def _merged(own: Pairs, shared: Pairs) -> Pairs:
    """What a point says itself comes before what its resource says."""
    keys = {key for key, _ in own}
    return [*own, *(pair for pair in shared if pair[0] not in keys)]


async def _at_once(read: Callable[[], None]) -> None:
    read()


Values = Iterator[tuple[str, Pairs, float]]
"""What is added to the metric's name, what to its attributes, and a value."""


def _number(point: Any) -> Values:
    which = point.WhichOneof("value")
    if which is not None:
        yield "", [], float(getattr(point, which))


def _moments(point: Any) -> Values:
    yield "_count", [], float(point.count)
    for name in ("sum", "min", "max"):
        if point.HasField(name):
            yield f"_{name}", [], getattr(point, name)


def _histogram(point: Any) -> Values:
    """Buckets as Prometheus has them: how many were at most ``le``."""
    yield from _moments(point)
    total = 0
    bounds = [*map(_shown, point.explicit_bounds), "+Inf"]
    for bound, count in zip(bounds, point.bucket_counts, strict=False):
        total += count
        yield "_bucket", [("le", bound)], float(total)


def _summary(point: Any) -> Values:
    yield "_count", [], float(point.count)
    yield "_sum", [], point.sum
    for each in point.quantile_values:
        yield "", [("quantile", _shown(each.quantile))], each.value


_VALUES = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _moments,
    "summary": _summary,
}


def _pairs(attributes: Iterable[Any]) -> Pairs:
    """Attributes that are plain values; lists and maps are no dimensions."""
    pairs = []
    for attribute in attributes:
        which = attribute.value.WhichOneof("value")
        if which == "bool_value":
            pairs.append((attribute.key, "true" if attribute.value.bool_value else "false"))
        elif which == "double_value":
            pairs.append((attribute.key, _shown(attribute.value.double_value)))
        elif which in ("string_value", "int_value"):
            pairs.append((attribute.key, str(getattr(attribute.value, which))))
    return pairs


def _shown(number: float) -> str:
    return f"{number:.15g}"
