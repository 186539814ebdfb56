"""The names, dimensions, timestamps and values that the API documents allow."""

import re
from collections.abc import Mapping

from heliometer.core.errors import Code, HeliometerError, Invalid

NAME = re.compile(r"[A-Za-z0-9._-]+")
"""What namespaces and dimension keys look like (v1.1 §2.4)."""
NAMESPACE_LENGTH = 64
KEY_LENGTH = 50
VALUE_LENGTH = 300
MOST_DIMENSIONS = 64
SERIES_BYTES = 16 << 10
"""Most bytes of the keys and values of one series."""
RESERVED_PREFIX = "hpcs."

PAST_MS = 14 * 86_400_000
FUTURE_MS = 120_000
"""How far from now a timestamp may lie, in milliseconds (v1.1 §4.4.7.1)."""
SMALLEST = 8.515920e-109
LARGEST = 1.174271e108
"""The magnitudes that a value other than zero may have (v1.1 §4.4.7.1), either sign."""


def check_namespace(namespace: str, path: str = "namespace") -> None:
    """Raise INVALID unless ``namespace`` is a legal name (v1.1 §2.4)."""
    _check_name(namespace, NAMESPACE_LENGTH, path, "a namespace")


def check_dimension(key: str, value: str, path: str = "dimensions") -> None:
    """Raise INVALID unless key and value are legal (v1.1 §2.4; a value is any printable text)."""
    _check_name(key, KEY_LENGTH, f"{path}.{_shown(key)}", "a dimension key")
    if not 1 <= len(value) <= VALUE_LENGTH:
        raise Invalid(
            f"{path}.{key}: a dimension value must have 1 to {VALUE_LENGTH} characters, "
            f"not {len(value)}."
        )
    if not value.isprintable():
        raise Invalid(
            f"{path}.{key}: a dimension value may only have printable characters; "
            f"character {next(i for i, c in enumerate(value, 1) if not c.isprintable())} is not."
        )


def check_dimensions(dimensions: Mapping[str, str], path: str = "dimensions") -> None:
    """Raise INVALID for more dimensions, or larger ones, than a series may have."""
    if len(dimensions) > MOST_DIMENSIONS:
        raise Invalid(
            f"{path}: a series may have {MOST_DIMENSIONS} dimensions, not {len(dimensions)}."
        )
    size = sum(len(k.encode()) + len(v.encode()) for k, v in dimensions.items())
    if size > SERIES_BYTES:
        raise Invalid(
            f"{path}: the dimensions of a series may have {SERIES_BYTES} bytes, not {size}."
        )


def check_not_reserved(namespace: str, path: str = "namespace") -> None:
    """Raise CONFLICT for a namespace that only agents may post to (v1.1 §2.3.1)."""
    if namespace.startswith(RESERVED_PREFIX):
        raise HeliometerError(
            Code.CONFLICT,
            f"{path}: {_shown(namespace)} is reserved: namespaces that start with "
            f"{RESERVED_PREFIX} hold what the service itself captures.",
            details="Choose another namespace, or post with a user that has the agent role.",
        )


def check_timestamp(timestamp_ms: int, now_ms: int, path: str = "timestamp") -> None:
    """Raise INVALID unless the timestamp is at most two weeks old and two minutes ahead."""
    if not now_ms - PAST_MS <= timestamp_ms <= now_ms + FUTURE_MS:
        raise Invalid(
            f"{path}: {timestamp_ms / 1000:.15g} is not within two weeks past and two minutes "
            f"future of now ({now_ms / 1000:.15g}).",
            details="Timestamps are Unix time in seconds.",
        )


def check_value(value: float, path: str = "value") -> None:
    """Raise INVALID unless the value is zero or its magnitude is in the documented range."""
    if value != 0 and not SMALLEST <= abs(value) <= LARGEST:
        raise Invalid(
            f"{path}: {value!r} is out of range: a value must be zero, or between {SMALLEST:e} "
            f"and {LARGEST:e} in magnitude."
        )


def _check_name(name: str, length: int, path: str, what: str) -> None:
    if not 1 <= len(name) <= length:
        raise Invalid(f"{path}: {what} must have 1 to {length} characters, not {len(name)}.")
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{path}: {_shown(name)} is not {what}: only a-z A-Z 0-9 . - _ are allowed.",
        )


def _shown(name: str) -> str:
    """A name as messages quote it: short, on one line, encodable."""
    text = ascii(name) if not name.isprintable() else name
    return text if len(text) <= KEY_LENGTH else text[:KEY_LENGTH] + "…"
