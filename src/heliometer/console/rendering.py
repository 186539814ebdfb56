"""Renders templates, and answers with what they rendered."""

import functools
import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response

from heliometer import __version__
from heliometer.console.static_files import static_url
from heliometer.http.operation import Call

GZIP_FROM = 1000
"""Bytes of a body from which compressing it pays."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def html_response(call: Call | None, html: str, status: int = 200) -> Response:
    """A page that may load only the console's own resources, and must not be framed."""
    return compressed(call, html.encode(), "text/html; charset=utf-8", status)


def compressed(call: Call | None, body: bytes, media_type: str, status: int) -> Response:
    """A body with the console's headers, compressed if the client accepts that."""
    headers = dict(HEADERS)
    accepted = call.request.headers.get("accept-encoding", "") if call else ""
    if len(body) >= GZIP_FROM and "gzip" in accepted:
        body = gzip.compress(body, 5)
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(body, status, headers=headers, media_type=media_type)


@functools.cache
def environment() -> Environment:
    """The templates, which escape everything unless told otherwise."""
    made = Environment(
        loader=PackageLoader("heliometer.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"when": when, "number": number, "shell": quote, "pairs": pairs_text}
    made.globals |= {"asset": static_url, "version": __version__, "url": url}
    return made


def when(ms: int | float) -> Markup:
    """A time in UTC, which a script turns into the reader's time zone."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def number(value: float | None) -> str:
    """A number with grouped digits and at most six significant ones."""
    if value is None:
        return "–"
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}".replace(",", "\u202f")
    if 1e5 <= abs(value) < 1e15:
        return f"{value:,.1f}".replace(",", "\u202f")
    return f"{value:.6g}"


def pairs_text(dimensions: Mapping[str, str] | Sequence[tuple[str, str]]) -> str:
    """Dimensions as they are written in an expression."""
    items = dimensions.items() if isinstance(dimensions, Mapping) else dimensions
    return ", ".join(f"{key}={value}" for key, value in items)


def url(path: str, **query: Any) -> str:
    """A path with its parameters: lists repeat theirs, empty ones are left out."""
    pairs = [
        (key, each)
        for key, value in query.items()
        if value not in (None, "")
        for each in (value if isinstance(value, list | tuple) else [value])
    ]
    return f"{path}?{urlencode(pairs)}" if pairs else path
