"""Remote write requests, put together byte by byte as Prometheus does, and by nothing of ours."""

import struct
from collections.abc import Mapping, Sequence

import cramjam


def varint(number: int) -> bytes:
    """A whole number in groups of seven bits."""
    number &= (1 << 64) - 1
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def label(key: str, value: str) -> bytes:
    """A label of a time series."""
    return field(1, field(1, key.encode()) + field(2, value.encode()))


def sample(value: float, timestamp_ms: int) -> bytes:
    """A sample of a time series: what is zero is left out, as proto3 has it."""
    packed = struct.pack("<d", value)
    number = b"" if packed == bytes(8) else b"\x09" + packed
    stamp = b"" if timestamp_ms == 0 else b"\x10" + varint(timestamp_ms)
    return field(2, number + stamp)


def time_series(labels: Mapping[str, str], samples: Sequence[tuple[int, float]]) -> bytes:
    """A time series of a request."""
    head = b"".join(label(k, v) for k, v in sorted(labels.items()))
    return field(1, head + b"".join(sample(v, t) for t, v in samples))


def packed(*series: bytes) -> bytes:
    """The whole body."""
    return bytes(cramjam.snappy.compress_raw(b"".join(series)))
