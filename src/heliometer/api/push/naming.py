"""Turns labels, tags and attributes into dimensions."""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from heliometer.core.errors import Invalid
from heliometer.meters.model import NAME as METRIC_NAME
from heliometer.metrics.series_index import Name
from heliometer.metrics.validation import (
    KEY_LENGTH,
    NAMESPACE_LENGTH,
    VALUE_LENGTH,
    check_dimensions,
    check_not_reserved,
)

_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]")
_DIGEST = 8
MOST_LABELS = 64
LONGEST = 4096
"""Most characters of a name or value, before shortening."""


def namespace_of(text: str, *, reserved_allowed: bool) -> str:
    """A legal namespace; characters that are not allowed become ``_``.

    Raises INVALID for an empty one and CONFLICT for a reserved one unless those are allowed.
    """
    if not text:
        raise Invalid("namespace: is missing.")
    namespace = _shortened(_ILLEGAL.sub("_", text), NAMESPACE_LENGTH, ".")
    if not reserved_allowed:
        check_not_reserved(namespace)
    return namespace


def name_of(namespace: str, metric: str, pairs: Iterable[tuple[str, str]]) -> Name:
    """The series of a metric with these labels.

    The metric's own name becomes dimension ``metric_name``. Characters that are not allowed in a
    key become ``_``; unprintable ones in a value become U+FFFD. Where this, or shortening, could
    make different texts equal, they end in a digest. Labels without a value are dropped. Raises
    INVALID for duplicate labels, too many, and too long ones.
    """
    dimensions: dict[str, str] = {}
    keys: dict[str, str] = {}
    if metric:
        dimensions[METRIC_NAME] = _value(metric)
    for key, value in pairs:
        if not key or not value:
            continue
        legal = _key(key)
        if legal in dimensions:
            if keys.get(legal) == key:
                raise Invalid(f"label {_brief(key)}: stands twice.")
            legal = f"{legal[: KEY_LENGTH - _DIGEST - 1]}.{_digest(key)}"
        keys[legal] = key
        dimensions[legal] = _value(value)
    if len(dimensions) > MOST_LABELS:
        raise Invalid(f"there are more than {MOST_LABELS} labels.")
    check_dimensions(dimensions, "labels")
    return Name(namespace, tuple(sorted(dimensions.items())))


def shown(name: Name) -> str:
    """A series in a message, shortened."""
    labels = dict(name.dimensions)
    metric = labels.pop(METRIC_NAME, name.namespace)
    text = ",".join(f"{key}={value}" for key, value in labels.items())
    whole = f"{metric}{{{text}}}" if text else metric
    return whole if len(whole) <= VALUE_LENGTH else f"{whole[: VALUE_LENGTH - 1]}…"


@lru_cache(8192)
def _key(text: str) -> str:
    if len(text) > LONGEST:
        raise Invalid(f"label {_brief(text)}: is longer than {LONGEST} characters.")
    return _shortened(_ILLEGAL.sub("_", text), KEY_LENGTH, ".")


@lru_cache(8192)
def _value(text: str) -> str:
    if len(text) > LONGEST:
        raise Invalid(f"value {_brief(text)}: is longer than {LONGEST} characters.")
    if text.isprintable():
        return _shortened(text, VALUE_LENGTH, "…")
    printable = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return f"{printable[: VALUE_LENGTH - _DIGEST - 1]}…{_digest(text)}"


def _brief(text: str) -> str:
    return ascii(text[:40])


def _shortened(text: str, length: int, mark: str) -> str:
    """The text, or if it is too long its beginning and a digest of the whole."""
    if len(text) <= length:
        return text
    return f"{text[: length - _DIGEST - 1]}{mark}{_digest(text)}"


def _digest(text: str) -> str:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST // 2)
    return digest.hexdigest()
