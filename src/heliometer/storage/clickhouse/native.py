"""ClickHouse's Native format: columns in their memory layout, so that arrays need no conversion.

A body is any number of blocks. A block is the numbers of columns and of rows, then each column's
name, type and values. Exactly one block is written at a time: a server never splits a block, and
its rows in one partition become visible together or not at all.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.generic] | Sequence[str] | Sequence[bytes]

_TYPES: dict[str, np.dtype[np.generic]] = {
    "Int64": np.dtype("<i8"),
    "UInt64": np.dtype("<u8"),
    "Float64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


class NotNative(Exception):
    """The bytes are not in the expected format."""


def encode(columns: Sequence[tuple[str, Column]]) -> bytes:
    """One block of columns of one length, by name: 64-bit arrays, or texts."""
    parts: list[bytes | memoryview] = [_number(len(columns)), _number(len(columns[0][1]))]
    for name, values in columns:
        if isinstance(values, np.ndarray):
            dtype = values.dtype.newbyteorder("<")
            array = np.ascontiguousarray(values, dtype=dtype)
            parts += [_text(name), _text(_NAMES[dtype]), array.data.cast("B")]
        else:
            parts += [_text(name), _text("String"), *map(_text, values)]
    return b"".join(parts)


def decode(body: bytes, dtypes: Sequence[type[np.generic]]) -> list[NDArray[np.generic]]:
    """The columns of all blocks, concatenated, as arrays of these types. Raises NotNative for
    anything but whole blocks of so many 64-bit columns."""
    found: list[list[NDArray[np.generic]]] = [[] for _ in dtypes]
    at, end = 0, len(body)
    while at < end:
        number, at = _read_number(body, at)
        rows, at = _read_number(body, at)
        if number != len(dtypes):
            raise NotNative(f"{number} columns instead of {len(dtypes)}")
        for values in found:
            _, at = _read_text(body, at)
            name, at = _read_text(body, at)
            dtype = _TYPES.get(name)
            if dtype is None or at + 8 * rows > end:
                raise NotNative(f"a column of {name!r} that cannot be read")
            values.append(np.frombuffer(body, dtype, rows, at))
            at += 8 * rows
    return [
        np.concatenate(values).astype(dtype, copy=False) if values else np.empty(0, dtype)
        for values, dtype in zip(found, dtypes, strict=True)
    ]


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _text(value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _number(len(content)) + content


def _read_number(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(body) and shift < 63:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NotNative("the end in the middle of a block")


def _read_text(body: bytes, at: int) -> tuple[str, int]:
    length, at = _read_number(body, at)
    if at + length > len(body):
        raise NotNative("the end in the middle of a block")
    return body[at : at + length].decode("utf-8", "replace"), at + length
