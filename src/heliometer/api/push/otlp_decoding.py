"""Decodes OpenTelemetry's metrics (OTLP 1.x), protobuf and JSON."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from heliometer.api.push.intake import MOST_SAMPLES, Intake, too_many
from heliometer.api.push.naming import MOST_LABELS, name_of
from heliometer.core.errors import Malformed
from heliometer.http.decoding import check_fields, check_values

LEFT_OUT = ("telemetry.", "process.", "os.")
"""Resource attributes that describe how something runs rather than what it is."""
INSTANCE, PROCESS, SCOPE = "service.instance.id", "process.pid", "otel.scope.name"
NO_VALUE = 1
"""The flag of a data point without a value."""
_TAGS = bytes(number << 3 | 2 for number in (1, 2, 3, 4, 5, 7, 8, 11))
"""The first bytes of the fields that hold messages."""

Pairs = list[tuple[str, str]]


def decode(body: bytes, *, is_json: bool) -> ExportMetricsServiceRequest:
    """The request in a body. Raises MALFORMED, TOO_LARGE."""
    check_values(body) if is_json else check_fields(body, _TAGS)
    request = ExportMetricsServiceRequest()
    try:
        if is_json:
            return json_format.Parse(body, request, ignore_unknown_fields=True)
        request.ParseFromString(body)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        why = f": {' '.join(str(error).split())[:200]}" if is_json else ""
        raise Malformed(f"The body is not an ExportMetricsServiceRequest{why}.") from error
    return request


def take(request: ExportMetricsServiceRequest, namespace: str, intake: Intake) -> None:
    """Gather the data points of a request. Raises TOO_LARGE."""
    seen = len(request.resource_metrics)
    for resource in request.resource_metrics:
        seen += len(resource.scope_metrics) + sum(len(s.metrics) for s in resource.scope_metrics)
        if seen > MOST_SAMPLES:
            raise too_many()
        given = _pairs(resource.resource.attributes)
        shared = [pair for pair in given if not pair[0].startswith(LEFT_OUT)]
        if not any(key == INSTANCE for key, _ in given):
            # Keeps the processes of a service apart.
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
    """The attributes of a point take precedence over those of its resource."""
    keys = {key for key, _ in own}
    return [*own, *(pair for pair in shared if pair[0] not in keys)]


Values = Iterator[tuple[str, Pairs, float]]
"""A suffix of the metric's name, further attributes, and a value."""


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
    """Cumulative buckets as in Prometheus: the count of values up to ``le``."""
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
    """Attributes with scalar values; lists and maps cannot become dimensions."""
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
