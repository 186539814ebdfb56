"""Requests and replies as all HP dialects have them: media types, times, dimensions, pages."""

import functools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError, Invalid, Malformed
from heliometer.http import paging
from heliometer.http.answers import json_list
from heliometer.http.documents import read_typed
from heliometer.http.operation import Call, Parameter
from heliometer.metrics.validation import MOST_DIMENSIONS

MEDIA_TYPE = "application/json"
CONTENT_TYPE = "application/json; charset=UTF-8"
"""As documented (v1.1 §4.3.1)."""
ROW_BYTES = 1024
"""About the memory of an alarm, a subscription or the like."""
T = TypeVar("T")
Handler = Callable[[Call], Awaitable[Response]]
_encode = msgspec.json.Encoder().encode
MARKER = Parameter("marker", "Where the answer before ended; the link to the next holds it.")
"""Every list has it; ``page`` reads it."""


def json_response(body: Any, status: int = 200) -> Response:
    """A JSON reply with the documented Content-Type."""
    return Response(_encode(body), status, media_type=CONTENT_TYPE)


def require_json_body(call: Call) -> None:
    """Raise UNSUPPORTED_MEDIA_TYPE unless the body is JSON, the only format in the operation
    tables (v1.1 §4.1). A missing Content-Type counts as JSON."""
    given = call.request.headers.get("content-type", MEDIA_TYPE)
    kind, _, parameters = given.partition(";")
    charset = re.search(r"charset\s*=\s*\"?([\w.:-]+)", parameters, re.IGNORECASE)
    if kind.strip().lower() not in (MEDIA_TYPE, ""):
        raise HeliometerError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type {kind.strip()[:60]!r} is not supported.",
            details="Send JSON, with the header Content-Type: application/json.",
        )
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise HeliometerError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            f"charset {charset[1][:40]!r} is not supported.",
            details="JSON is UTF-8.",
        )


def only(query: QueryParams, name: str) -> str | None:
    """The value of a parameter that may occur once; ``None`` if it is absent or empty."""
    values = query.getlist(name)
    if len(values) > 1:
        raise Malformed(f"{name}: may be given once, not {len(values)} times.")
    return values[0] if values and values[0] else None


def required(query: QueryParams, name: str, hint: str) -> str:
    """The value of a mandatory parameter."""
    value = only(query, name)
    if value is None:
        raise Malformed(f"{name}: this parameter is required.", details=hint)
    return value


def whole_number(name: str, text: str, low: int, high: int) -> int:
    """A decimal number from ``low`` to ``high``. Raises MALFORMED."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
        raise Malformed(f"{name}: {text[:40]!r} is not a whole number from {low} to {high}.")
    return int(text)


def time_ms(name: str, text: str) -> int:
    """ISO 8601 date and time as milliseconds since the epoch; without a zone it is UTC.

    An unescaped ``+`` arrives as a space. Raises MALFORMED.
    """
    try:
        moment = datetime.fromisoformat(re.sub(r" (?=\d\d:?\d\d$)", "+", text.strip()))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise Malformed(
            f"{name}: {text[:40]!r} is not an ISO 8601 date and time.",
            details="Such as 2013-11-01T12:00Z or 2013-11-01T13:00:00+01:00.",
        ) from error


def dimensions(texts: Iterable[str]) -> dict[str, str]:
    r"""``key:value`` pairs separated by commas (v1.1 §4.4.7.3).

    Values may hold any text, with spaces at either end; a comma or backslash in one is written
    ``\,`` or ``\\``. Raises MALFORMED.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        for pair in re.findall(r"(?:[^,\\]|\\.|\\$)+", text):
            key, colon, value = pair.partition(":")
            key = key.strip()
            if not colon or not key:
                raise Malformed(
                    f"dimensions: {pair.strip()[:80]!r} is not key:value.",
                    details="Such as metric_name:user_metric,instance_id:392633.",
                )
            if key in pairs:
                raise Malformed(f"dimensions: {key[:50]!r} is given more than once.")
            pairs[key] = re.sub(r"\\(.)", r"\1", value)
    if len(pairs) > MOST_DIMENSIONS:
        raise Malformed(f"dimensions: no series has more than {MOST_DIMENSIONS}.")
    return pairs


def escaped(value: str) -> str:
    """A dimension value as it is written in a query."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


async def body(call: Call, type_: type[T]) -> T:
    """The JSON body as a value of a msgspec type. Raises MALFORMED with the path of the error."""
    require_json_body(call)
    return await read_typed(call, type_)


def iso(milliseconds: int) -> str:
    """A time as ISO 8601 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def list_response(
    key: str,
    rows: Iterable[T],
    render: Callable[[T], Any],
    more: Mapping[str, Any],
    number: int,
) -> Response:
    """A reply with a list of up to ``number`` rows under ``key``, and ``more`` after it; a long
    one is written in pieces."""
    rest = _encode(more)[1:]
    around = b'{"%s":[' % key.encode(), b"]" + (b"," + rest if more else rest)
    return json_list(rows, render, number * ROW_BYTES, CONTENT_TYPE, around)


def created(call: Call, path: str, document: Any) -> Response:
    """201 with the new resource and its Location (v1.1 §4.4.6.1, for one)."""
    response = json_response(document, 201)
    response.headers["Location"] = path
    return response


def self_link(call: Call, path: str) -> list[dict[str, str]]:
    """The ``links`` of a resource."""
    return [{"rel": "self", "href": call.base_url + path}]


def next_link(call: Call, path: str, marker: str | None) -> list[dict[str, str]]:
    """The ``links`` of a list: the next page, unless there is none."""
    if marker is None:
        return []
    return [{"rel": "next", "href": paging.same_request(call, path, marker=marker)}]


def page(call: Call, most: int) -> tuple[str | None, int | None]:
    """The marker and limit of a request; ``None`` for each that is absent."""
    query = call.request.query_params
    limit = only(query, "limit")
    return only(query, "marker"), whole_number("limit", limit, 1, most) if limit else None


def unknown_marker() -> Malformed:
    """The fault for a marker that no link has had."""
    return Malformed("marker: is not one that this service gave.")


def only_400(handler: Handler) -> Handler:
    """For an operation whose document has no 422: invalid input is a 400 there."""

    @functools.wraps(handler)
    async def handle(call: Call) -> Response:
        try:
            return await handler(call)
        except Invalid as error:
            raise Malformed(error.message, details=error.details) from error

    return handle


def marked(handler: Handler) -> Handler:
    """For a list, whose document has no 404: an unknown marker is a 400 there."""

    @functools.wraps(handler)
    async def handle(call: Call) -> Response:
        try:
            return await handler(call)
        except HeliometerError as error:
            if error.code is Code.NOT_FOUND:
                raise unknown_marker() from error
            raise

    return handle


def one_of(name: str, text: str, allowed: Sequence[str]) -> str:
    """The allowed word that a text is, in any case. Raises MALFORMED for none."""
    for word in allowed:
        if text.lower() == word.lower():
            return word
    raise Malformed(f"{name}: {text[:40]!r} is not one of {', '.join(allowed)}.")
