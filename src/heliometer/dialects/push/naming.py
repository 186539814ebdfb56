"""How labels, tags and attributes become dimensions, whatever they are called elsewhere."""

import hashlib
import re
from collections.abc import Iterable

from heliometer.ingest.registry import Name
from heliometer.model.errors import Invalid
from heliometer.model.measurements import (
    KEY_LENGTH,
    NAMESPACE_LENGTH,
    VALUE_LENGTH,
    check_not_reserved,
)
from heliometer.model.meters import NAME as METRIC_NAME

_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]")
_DIGEST = 8


def namespace_of(text: str, *, reserved_allowed: bool) -> str:
    """A legal namespace; what is not allowed in one becomes ``_``.

    Raises INVALID for an empty one and CONFLICT for a reserved one where that is not allowed.
    """
    if not text:
        raise Invalid("namespace: is missing.")
    namespace = _shortened(_ILLEGAL.sub("_", text), NAMESPACE_LENGTH, ".")
    if not reserved_allowed:
        check_not_reserved(namespace)
    return namespace


def name_of(namespace: str, metric: str, pairs: Iterable[tuple[str, str]]) -> Name:
    """The series of a metric with these labels.

    The metric's own name becomes dimension ``metric_name``. In keys, what is not allowed becomes
    ``_``; in values, what cannot be printed becomes U+FFFD; what is too long is cut and ends in a
    digest, so that different ones stay different. Labels without a value are none.
    """
    dimensions: dict[str, str] = {}
    if metric:
        dimensions[METRIC_NAME] = _value(metric)
    for key, value in pairs:
        if key and value:
            legal = _shortened(_ILLEGAL.sub("_", key), KEY_LENGTH, ".")
            dimensions.setdefault(legal, _value(value))
    return Name(namespace, tuple(sorted(dimensions.items())))


def shown(name: Name) -> str:
    """A series as it may stand in a message."""
    labels = dict(name.dimensions)
    metric = labels.pop(METRIC_NAME, name.namespace)
    text = ",".join(f"{key}={value}" for key, value in labels.items())
    whole = f"{metric}{{{text}}}" if text else metric
    return whole if len(whole) <= VALUE_LENGTH else f"{whole[: VALUE_LENGTH - 1]}…"


def _value(text: str) -> str:
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return _shortened(text, VALUE_LENGTH, "…")


def _shortened(text: str, length: int, mark: str) -> str:
    if len(text) <= length:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST // 2)
    return f"{text[: length - _DIGEST - 1]}{mark}{digest.hexdigest()}"
