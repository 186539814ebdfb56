"""Prometheus remote write, version 1: snappy and protobuf.

There are two readers, as for the metrics JSON. A series' labels, once read, are recognised by
their bytes, so that of an ordinary time series (labels, one sample) only the sample at its end is
looked at, and those of a whole request at once.
"""

from collections.abc import Iterator
from typing import Any

import cramjam
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from starlette.responses import Response

from heliometer.dialects.push.intake import Intake
from heliometer.dialects.push.naming import name_of, namespace_of
from heliometer.http.operation import STATUS, Call, Dialect, Operation, Parameter
from heliometer.ingest.registry import Name
from heliometer.model.errors import Code, HeliometerError, Malformed
from heliometer.model.identity import Permission
from heliometer.model.measurements import FUTURE_MS, LARGEST, PAST_MS, SMALLEST
from heliometer.usecases.metrics import Columns, Metrics

NAMESPACE = "prometheus"
"""Unless the URL names another."""
FORM = "prometheus"
METRIC = "__name__"
_LABEL = 0x0A
"""What each label begins with within a time series: field 1, with a length."""
_SAMPLE = ((18, 9), (9, None))
"""Bytes of a time series' last sample, and where its value begins: the sample of a zero has none.
"""


def _messages() -> dict[str, Any]:
    """The message types, with time series left as bytes in the request, and labels in those."""
    field = descriptor_pb2.FieldDescriptorProto
    repeated, single = field.LABEL_REPEATED, field.LABEL_OPTIONAL
    file = descriptor_pb2.FileDescriptorProto(
        name="heliometer/remote_write.proto", package="heliometer.prometheus", syntax="proto3"
    )
    types: dict[str, list[tuple[str, int, int, int, str]]] = {
        "WriteRequest": [("timeseries", 1, repeated, field.TYPE_BYTES, "")],
        "Label": [
            ("name", 1, single, field.TYPE_BYTES, ""),
            ("value", 2, single, field.TYPE_BYTES, ""),
        ],
        "Sample": [
            ("value", 1, single, field.TYPE_DOUBLE, ""),
            ("timestamp", 2, single, field.TYPE_INT64, ""),
        ],
        "TimeSeries": [
            ("labels", 1, repeated, field.TYPE_BYTES, ""),
            ("samples", 2, repeated, field.TYPE_MESSAGE, ".heliometer.prometheus.Sample"),
            ("histograms", 4, repeated, field.TYPE_BYTES, ""),
        ],
    }
    for name, fields in types.items():
        message = file.message_type.add(name=name)
        for each, number, label, kind, type_name in fields:
            message.field.add(
                name=each, number=number, label=label, type=kind, type_name=type_name or None
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"heliometer.prometheus.{name}")
        )
        for name in types
    }


_MESSAGES = _messages()


def dialect(metrics: Metrics) -> Dialect:
    """The dialect over the use cases of metrics."""

    async def write(call: Call) -> Response:
        headers = call.request.headers
        kind = headers.get("content-type", "application/x-protobuf")
        if "protobuf" not in kind or "write.v2" in kind:
            raise HeliometerError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type {kind[:80]!r} is not supported.",
                details="Send application/x-protobuf: remote write 1.0.",
            )
        project = await metrics.target(call.caller, headers.get("x-tenant-id"))
        namespace = namespace_of(
            call.request.query_params.get("namespace", NAMESPACE),
            reserved_allowed=Permission.POST_RESERVED in call.caller.permissions,
        )
        body = await call.body({"snappy": unpack})
        intake = Intake(project, FORM, metrics.now_ms())
        columns = read(body, namespace, intake)
        await metrics.push(project, columns, body)
        if intake.complaint:
            raise Malformed(f"{intake.complaint}")
        return Response(status_code=204)

    return Dialect(
        "prometheus",
        "Prometheus remote write",
        "/api/v1",
        (
            Operation(
                "POST", "/write", "Remote write",
                "Prometheus Remote-Write 1.0 specification", write,
                Permission.POST_METRICS, 204, (413, 415),
                (
                    Parameter("namespace", f"Namespace of the series; {NAMESPACE} without."),
                    Parameter("project", "With a password: the project, by name or id."),
                ),
                foreign=True,
            ),
        ),
        render_fault,
    )  # fmt: skip


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """One line of text: Prometheus logs it."""
    text = f"{error.message} {error.details}".strip()
    return Response(
        f"{text} ({request_id})\n", STATUS[error.code], media_type="text/plain; charset=utf-8"
    )


def unpack(packed: bytes, limit: int) -> bytes | None:
    """Snappy's block format; ``None``: longer than ``limit``. Raises MALFORMED."""
    size = shift = 0
    for byte in packed[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > limit:
        return None
    try:
        return bytes(cramjam.snappy.decompress_raw(packed))
    except cramjam.DecompressionError as error:
        raise Malformed("The body is not valid snappy (block format).") from error


def read(body: bytes, namespace: str, intake: Intake) -> Columns:
    """Decode a request. Raises MALFORMED; what cannot be stored is counted in ``intake``."""
    try:
        items = list(_MESSAGES["WriteRequest"].FromString(body).timeseries)
    except DecodeError as error:
        raise Malformed("The body is not a remote write request (protobuf).") from error
    series: list[int] = []
    stamps, values = [], []
    spellings = intake.project.spellings(namespace, FORM)
    for length, value_at in _SAMPLE:
        ids = [spellings.get(item[:-length]) for item in items]
        known = [item for item, each in zip(items, ids, strict=True) if each is not None]
        if not known:
            continue
        stamp, value, good = _samples([item[-length:] for item in known], length, value_at)
        good &= _storable(stamp, value, intake.now_ms)
        # A series that is known by these bytes and one sample of ours: nothing else can be there.
        series += np.array([i for i in ids if i is not None], dtype=np.int64)[good].tolist()
        stamps.append(stamp[good])
        values.append(value[good])
        odd = iter((~good).tolist())
        items = [item for item, each in zip(items, ids, strict=True) if each is None or next(odd)]
    for item in items:
        _read_slowly(item, namespace, intake)
    rest = intake.columns()
    shift = len(series)
    return Columns(
        [*series, *rest.series],
        {shift + at: name for at, name in rest.names.items()},
        None,
        np.concatenate([*stamps, rest.timestamp]),
        np.concatenate([*values, rest.value]),
        FORM,
    )


def _samples(tails: list[bytes], length: int, value_at: int | None) -> tuple[Any, Any, Any]:
    """Timestamps, values, and which of the tails are samples at all.

    Such a tail is field 2 (18), its length, the value (field 1: 9, and eight bytes) unless that is
    zero, and the timestamp (field 2: 16) as a number of six groups of seven bits.
    """
    table = np.frombuffer(b"".join(tails), dtype=np.uint8).reshape(-1, length)
    digits = table[:, -6:]
    good = (table[:, 0] == 18) & (table[:, 1] == length - 2) & (table[:, -7] == 16)
    good &= (digits[:, :5] >= 0x80).all(axis=1) & (digits[:, 5] < 0x80)
    stamp = ((digits & 0x7F).astype(np.int64) << (7 * np.arange(6))).sum(axis=1)
    if value_at is None:
        return stamp, np.zeros(len(table)), good
    good &= table[:, 2] == 9
    value = np.ascontiguousarray(table[:, 3:11]).view("<f8").reshape(-1)
    return stamp, value, good


def _storable(stamp: Any, value: Any, now_ms: int) -> Any:
    with np.errstate(invalid="ignore"):
        magnitude = np.abs(value)
        good = (magnitude >= SMALLEST) & (magnitude <= LARGEST) | (magnitude == 0)
    return good & (stamp >= now_ms - PAST_MS) & (stamp <= now_ms + FUTURE_MS)


def _read_slowly(item: bytes, namespace: str, intake: Intake) -> None:
    try:
        found = _MESSAGES["TimeSeries"].FromString(item)
        labels = list(_labels(found.labels))
    except (DecodeError, UnicodeDecodeError) as error:
        raise Malformed("A time series of the request cannot be read (protobuf).") from error

    def name() -> Name:
        metric = next((value for key, value in labels if key == METRIC), "")
        return name_of(namespace, metric, (pair for pair in labels if pair[0] != METRIC))

    spelling = b"".join(_field(label) for label in found.labels)
    whole = spelling if spelling and item.startswith(spelling) else None
    for sample in found.samples:
        intake.add(namespace, whole, name, sample.timestamp, sample.value)
    if found.histograms:
        intake.leave_out(
            f"{name().namespace}: native histograms are not kept", len(found.histograms)
        )


def _labels(raw: Any) -> Iterator[tuple[str, str]]:
    for each in raw:
        label = _MESSAGES["Label"].FromString(each)
        yield label.name.decode(), label.value.decode()


def _field(content: bytes) -> bytes:
    """A label as it stands in its time series."""
    size, length = len(content), bytearray([_LABEL])
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + content
