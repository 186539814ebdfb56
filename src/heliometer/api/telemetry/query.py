"""Conditions in query strings: ``q.field``, ``q.op``, ``q.type``, ``q.value`` (004, Request
Parameter), repeated and in any order."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
from starlette.datastructures import QueryParams

from heliometer.core.errors import Malformed

KEYS = ("field", "op", "type", "value")
OPERATORS = ("lt", "le", "eq", "ne", "ge", "gt")
TYPES = ("integer", "float", "boolean", "string", "datetime")
METADATA = ("resource_metadata.", "metadata.")
"""Prefixes of fields that name a dimension."""
MOST = 100
"""The most conditions in one request."""


class Condition(NamedTuple):
    """A condition whose operator, type and value are valid."""

    field: str
    op: str
    value: str
    type: str = ""


def conditions(query: QueryParams) -> list[Condition]:
    """The valid conditions of a request. Raises MALFORMED with the documented messages."""
    raw = [*_dotted(query), *_as_json(query)]
    if len(raw) > MOST:
        raise Malformed(f"A request may have {MOST} conditions, not {len(raw)}.")
    return [_checked(each) for each in raw]


def milliseconds(text: str) -> int | None:
    """A time in ISO 8601, UTC unless it names a zone; ``None`` for anything else."""
    # A raw + in a query string arrives as a space.
    head, space, zone = text.rpartition(" ")
    if space and len(zone) in (4, 5) and "T" in head:
        text = f"{head}+{zone}"
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return math.floor(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _dotted(query: QueryParams) -> list[dict[str, str]]:
    pairs = [
        (name[2:], value)
        for name, value in query.multi_items()
        if name.startswith("q.") and name[2:] in KEYS
    ]
    by_key = {key: [value for name, value in pairs if name == key] for key in KEYS}
    number = max(map(len, by_key.values()), default=0)
    runs = sum(1 for _ in groupby(name for name, _ in pairs))
    by_index = all(len(values) in (0, number) for values in by_key.values())
    if by_index or runs == sum(map(bool, by_key.values())):
        return [
            {key: values[at] for key, values in by_key.items() if at < len(values)}
            for at in range(number)
        ]
    # Some are left out: neighbouring ones form a condition.
    grouped: list[dict[str, str]] = []
    for name, value in pairs:
        if not grouped or name in grouped[-1]:
            grouped.append({})
        grouped[-1][name] = value
    return grouped


def _as_json(query: QueryParams) -> Iterable[dict[str, str]]:
    for text in query.getlist("q"):
        try:
            given: Any = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise Malformed(f"q: {text[:40]!r} is not JSON.") from error
        for each in given if isinstance(given, list) else [given]:
            if not isinstance(each, dict):
                raise Malformed("q: must be an object, or a list of objects.")
            yield {key: _text(each[key]) for key in KEYS if each.get(key) is not None}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked(given: dict[str, str]) -> Condition:
    field, value = given.get("field", "").strip(), given.get("value", "")
    op, type_ = given.get("op", "").strip() or "eq", given.get("type", "").strip()
    if not field:
        raise Malformed("Field can't be blank.")
    # The document's sample request has the page after a second question mark.
    for separator in ("?page=", "?per_page="):
        value = value.partition(separator)[0]
    if not value.strip():
        raise Malformed("Value can't be blank.")
    if op not in OPERATORS:
        raise Malformed(f"Unimplemented operator '{op[:40]}' for specified field.")
    if type_ and type_ not in TYPES:
        raise Malformed(
            f"The data type '{type_[:40]}' is not supported. The supported data type list is: "
            f"{list(TYPES)}"
        )
    _check_value(value, type_)
    return Condition(field, op, value, type_)


def _check_value(value: str, type_: str) -> None:
    shown = value[:100]
    if type_ == "datetime":
        if milliseconds(value) is None:
            raise Malformed(
                f"Unexpected exception converting '{shown}' to the expected data type \"datetime\"."
            )
        return
    good = True
    if type_ == "integer":
        good = value.strip().lstrip("+-").isdecimal()
    elif type_ == "float":
        try:
            good = math.isfinite(float(value))
        except ValueError:
            good = False
    elif type_ == "boolean":
        good = value.strip().lower() in ("0", "1", "true", "false", "t", "f", "yes", "no")
    if not good:
        raise Malformed(
            f"Unable to convert the value '{shown}' to the expected data type '{type_}'."
        )


def only_equal(found: Sequence[Condition]) -> dict[str, str]:
    """Values by field; only ``eq`` is allowed (004, Valid operators). Raises MALFORMED."""
    for condition in found:
        if condition.op != "eq":
            raise Malformed(f"Unimplemented operator '{condition.op}' for specified field.")
    return {condition.field: condition.value for condition in found}
