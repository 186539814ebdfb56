"""Decodes Prometheus remote write, version 1: snappy and protobuf.

There are two readers, as for the metrics JSON. Once a series' labels have been read, their bytes
identify it, so that of an ordinary time series (labels, one sample) only the sample at its end
needs decoding, and all those of a request are decoded together.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import cramjam
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from heliometer.api.push.intake import MOST_SAMPLES, Intake, too_many
from heliometer.api.push.naming import MOST_LABELS, name_of
from heliometer.core.errors import Malformed
from heliometer.http.decoding import check_fields
from heliometer.metrics.columns import Columns
from heliometer.metrics.series_index import Name
from heliometer.metrics.validation import FUTURE_MS, LARGEST, PAST_MS, SMALLEST

FORM = "prometheus"
METRIC = "__name__"
_LABEL = 0x0A
"""The first byte of each label in a time series: field 1, with a length."""
_TAILS = {
    18: np.dtype(
        {
            "names": ["head", "value", "end"],
            "formats": ["<u4", "<f8", "<u8"],
            "offsets": [0, 3, 10],
            "itemsize": 18,
        }
    ),
    9: np.dtype(
        {"names": ["head", "end"], "formats": ["u1", "<u8"], "offsets": [0, 1], "itemsize": 9}
    ),
}
"""The end of a time series with one sample, by its length in bytes: a zero is sent without value.
Field 2 (0x12) with its length, the value (field 1: 0x09, eight bytes), and the timestamp
(field 2: 0x10) in six groups of seven bits, which suffice for milliseconds until 2109."""
_MARKS = {
    18: (np.uint32(0x091012), np.uint32(0xFFFFFF), np.uint64(0x0080_8080_8080_1000)),
    9: (np.uint8(0x12), np.uint8(0xFF), np.uint64(0x0080_8080_8080_1007)),
}
_END_MASKS = {18: np.uint64(0x8080_8080_8080_FF00), 9: np.uint64(0x8080_8080_8080_FFFF)}


def _messages() -> dict[str, Any]:
    """The message types; time series and labels stay bytes, to be decoded only when needed."""
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


def unpack(packed: bytes, limit: int) -> bytes | None:
    """Decompress snappy's block format; ``None`` if it exceeds ``limit``. Raises MALFORMED."""
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
    """Decode a request; ``intake`` counts samples that cannot be stored. Raises MALFORMED."""
    check_fields(body, bytes([_LABEL]))
    try:
        items = list(_MESSAGES["WriteRequest"].FromString(body).timeseries)
    except DecodeError as error:
        raise Malformed("The body is not a remote write request (protobuf).") from error
    if len(items) > MOST_SAMPLES:
        raise too_many()
    series: list[int] = []
    stamps, values = [], []
    spellings = intake.project.spellings(namespace, FORM)
    for length in _TAILS:
        ids: list[int | None] = [spellings.get(item[:-length]) for item in items]
        known, unknown = items, []
        if None in ids:
            known = [item for item, each in zip(items, ids, strict=True) if each is not None]
            unknown = [item for item, each in zip(items, ids, strict=True) if each is None]
        if known:
            stamp, value, good = _samples([item[-length:] for item in known], length)
            good &= _storable(stamp, value, intake.now_ms)
            # The bytes are of a known series, and the end is one sample: there is nothing else.
            found = [each for each in ids if each is not None]
            if not good.all():
                unknown += [
                    item for item, fine in zip(known, good.tolist(), strict=True) if not fine
                ]
                found = np.array(found, dtype=np.int64)[good].tolist()
                stamp, value = stamp[good], value[good]
            series += found
            stamps.append(stamp)
            values.append(value)
        items = unknown
        if not items:
            break
    for item in items:
        _read_one(item, namespace, intake)
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


def _samples(tails: list[bytes], length: int) -> tuple[Any, Any, Any]:
    """Timestamps, values, and for each tail whether it is a sample."""
    table = np.frombuffer(b"".join(tails), dtype=_TAILS[length])
    head, head_mask, end = _MARKS[length]
    last = table["end"]
    good = (table["head"] & head_mask == head) & (last & _END_MASKS[length] == end)
    groups = last >> np.uint64(16)
    stamp = groups & np.uint64(0x7F)
    for group in range(1, 6):
        stamp |= (groups >> np.uint64(group)) & np.uint64(0x7F << 7 * group)
    value = table["value"] if length == 18 else np.zeros(len(table))
    return stamp.astype(np.int64), value, good


def _storable(stamp: Any, value: Any, now_ms: int) -> Any:
    magnitude = np.abs(value)
    good = (magnitude >= SMALLEST) & (magnitude <= LARGEST) | (magnitude == 0)
    return good & (stamp >= now_ms - PAST_MS) & (stamp <= now_ms + FUTURE_MS)


def _read_one(item: bytes, namespace: str, intake: Intake) -> None:
    try:
        found = _MESSAGES["TimeSeries"].FromString(item)
        if len(found.labels) > MOST_LABELS:
            intake.leave_out(f"there are more than {MOST_LABELS} labels.", len(found.samples))
            return
        labels = list(_labels(found.labels))
    except DecodeError as error:
        raise Malformed("A time series of the request cannot be read (protobuf).") from error
    except UnicodeDecodeError:
        intake.leave_out("a label is not UTF-8.", len(found.samples))
        return

    @cache
    def name() -> Name:
        metric = next((value for key, value in labels if key == METRIC), "")
        return name_of(namespace, metric, (pair for pair in labels if pair[0] != METRIC))

    spelling = b"".join(_field(label) for label in found.labels)
    whole = spelling if spelling and item.startswith(spelling) else None
    for sample in found.samples:
        intake.add(namespace, whole, name, sample.timestamp, sample.value)
    if found.histograms:
        intake.leave_out("native histograms are not kept.", len(found.histograms))


def _labels(raw: Any) -> Iterator[tuple[str, str]]:
    for each in raw:
        label = _MESSAGES["Label"].FromString(each)
        yield label.name.decode(), label.value.decode()


def _field(content: bytes) -> bytes:
    """A label as it is encoded in its time series."""
    size, length = len(content), bytearray([_LABEL])
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + content
