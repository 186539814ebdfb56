"""One request to a page: who asks, what the form says, and how the answer is made."""

import functools
import gzip
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from shlex import quote
from typing import Any
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes, urlencode

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from heliometer import __version__
from heliometer.console.session import Session, Sessions, check_origin, check_proof
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import STATUS, Call, Operation
from heliometer.identity.model import Permission

log = logging.getLogger(__name__)

FLASH = "heliometer_said"
FORM_BYTES = 256 << 10
FIELDS = 1000
GZIP_FROM = 1000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NAVIGATION = (
    ("overview", "Overview", "/console"),
    ("metrics", "Metrics", "/console/metrics"),
    ("alarms", "Alarms", "/console/alarms"),
    ("notifications", "Notifications", "/console/notifications"),
    ("feed", "Feed", "/console/feed"),
    ("meters", "Meters", "/console/meters"),
)
PEOPLE = ("people", "Projects and users", "/console/people")


@dataclass(slots=True)
class PageRequest:
    """A request by somebody who is signed in."""

    call: Call
    session: Session
    form: Mapping[str, str] = field(default_factory=dict)
    many: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """All values of each field of the form."""

    @property
    def query(self) -> Mapping[str, str]:
        """The URL's parameters, the last of each name."""
        return self.call.request.query_params

    def queries(self, name: str) -> list[str]:
        """All values of a parameter."""
        return self.call.request.query_params.getlist(name)

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.call.path_params[name]

    def allows(self, permission: Permission) -> bool:
        """Whether the user's role allows it."""
        return permission in self.session.caller.permissions

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """A page in the frame of the console."""
        said = _read_flash(self.call)
        mine = self.session.is_admin and self.session.at_home
        navigation = [*NAVIGATION, *([PEOPLE] if mine else [])]
        html = (
            environment()
            .get_template(template)
            .render(
                visit=self,
                session=self.session,
                caller=self.session.caller,
                can_manage=self.allows(Permission.MANAGE),
                navigation=navigation,
                base_url=self.call.base_url,
                said=said,
                values=self.form,
                many=self.many,
                **{"errors": {}, "error": None, "section": "", **context},
            )
        )
        response = html_response(self.call, html, status)
        if said:
            response.delete_cookie(FLASH, path="/console")
        return response

    def wrong(self, template: str, error: HeliometerError, **context: Any) -> Response:
        """The page again, with what was typed and the error beside its field."""
        if error.code in (Code.INTERNAL, Code.UNAVAILABLE):
            raise error
        return self.page(
            template, status=STATUS[error.code], error=error, errors=_beside(error, self.form),
            **context,
        )  # fmt: skip

    def go(self, path: str, said: str = "") -> Response:
        """To another page, which says that something was done."""
        response = RedirectResponse(path, 303)
        if said:
            text = quote_from_bytes(said[:300].encode())
            response.set_cookie(
                FLASH, text, max_age=30, path="/console", httponly=True, samesite="lax"
            )
        return response

    def json(self, document: Any) -> Response:
        """Data for a script."""
        body = msgspec.json.encode(document)
        return _compressed(self.call, body, "application/json", 200)


Handler = Callable[[PageRequest], Awaitable[Response]]


def pages(
    sessions: Sessions, section: Sequence[tuple[str, str, str, Handler, Permission]]
) -> tuple[Operation, ...]:
    """Operations of (method, path, summary, handler, permission): only for who is signed in."""
    return tuple(
        Operation(method, path, summary, "beyond the documents (v1.1 §2.2.1)",
                  functools.partial(_visit, sessions, handler, permission), foreign=True)
        for method, path, summary, handler, permission in section
    )  # fmt: skip


async def _visit(
    sessions: Sessions, handler: Handler, permission: Permission, call: Call
) -> Response:
    session = await sessions.of(call.request)
    if session is None:
        return _to_sign_in(call)
    call.caller_or_none = session.caller
    visit = PageRequest(call, session)
    try:
        if call.request.method == "POST":
            check_origin(call.request, call.base_url)
            visit.form, visit.many = await read_form(call)
            check_proof(session, visit.form.get("proof", ""))
        session.caller.require(permission)
        return await handler(visit)
    except HeliometerError as error:
        if error.code is Code.INTERNAL:
            log.error("a page failed: %s", error)
        return visit.page("error.html", status=STATUS[error.code], error=error)


async def read_form(call: Call) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The fields of a form, the last of each name and all. Raises MALFORMED, TOO_LARGE."""
    call.body_limit = min(call.body_limit, FORM_BYTES)
    try:
        text = (await call.body()).decode("utf-8", "replace")
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError as error:
        raise Malformed(f"The form has more than {FIELDS} fields.") from error
    except HeliometerError as error:
        if error.code is not Code.TOO_LARGE:
            raise
        raise HeliometerError(
            Code.TOO_LARGE,
            f"The form is larger than {call.body_limit} bytes.",
            details="Shorten what you wrote.",
        ) from error
    many: dict[str, list[str]] = {}
    for key, value in fields:
        many.setdefault(key, []).append(value.replace("\r\n", "\n"))
    return {key: values[-1] for key, values in many.items()}, many


def _to_sign_in(call: Call) -> Response:
    request = call.request
    target = "/console/sign-in"
    if request.method == "GET":
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target += "?" + urlencode({"next": here})
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"HX-Redirect": target})
    if "application/json" in request.headers.get("accept", ""):
        return Response(b'{"signed_out": true}', 401, media_type="application/json")
    return RedirectResponse(target, 303)


def html_response(call: Call | None, html: str, status: int = 200) -> Response:
    """A page with the headers that keep it ours."""
    return _compressed(call, html.encode(), "text/html; charset=utf-8", status)


def _compressed(call: Call | None, body: bytes, media_type: str, status: int) -> Response:
    headers = dict(HEADERS)
    accepted = call.request.headers.get("accept-encoding", "") if call else ""
    if len(body) >= GZIP_FROM and "gzip" in accepted:
        body = gzip.compress(body, 5)
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(body, status, headers=headers, media_type=media_type)


# -- templates --------------------------------------------------------------------------------


@functools.cache
def environment() -> Environment:
    """The templates; everything in them is escaped unless it says otherwise."""
    made = Environment(
        loader=PackageLoader("heliometer.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"when": when, "number": number, "shell": quote, "pairs": pairs_text}
    made.globals |= {"asset": asset_url, "version": __version__, "url": url}
    return made


def when(ms: int | float) -> Markup:
    """A moment, which a script shows in the reader's own time zone."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def number(value: float | None) -> str:
    """A number as people read it."""
    if value is None:
        return "–"
    if isinstance(value, int) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}".replace(",", "\u202f")
    if 1e5 <= abs(value) < 1e15:
        return f"{value:,.1f}".replace(",", "\u202f")
    return f"{value:.6g}"


def pairs_text(dimensions: Mapping[str, str] | Sequence[tuple[str, str]]) -> str:
    """Dimensions as they stand in an expression."""
    items = dimensions.items() if isinstance(dimensions, Mapping) else dimensions
    return ", ".join(f"{key}={value}" for key, value in items)


def url(path: str, **query: Any) -> str:
    """A path with parameters; lists repeat theirs."""
    pairs = [
        (key, each)
        for key, value in query.items()
        if value not in (None, "")
        for each in (value if isinstance(value, list | tuple) else [value])
    ]
    return f"{path}?{urlencode(pairs)}" if pairs else path


# -- static files -----------------------------------------------------------------------------

TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@functools.cache
def _names() -> frozenset[str]:
    """Of all files: nothing else is looked for, or remembered."""
    return frozenset(
        each.name for each in (resources.files("heliometer.console") / "static").iterdir()
    )


@functools.cache
def _asset(name: str) -> tuple[bytes, bytes, str, str]:
    """A file, the same compressed, its type, and a digest of it."""
    kind = TYPES[name.rpartition(".")[2]]
    body = (resources.files("heliometer.console") / "static" / name).read_bytes()
    digest = hashlib.blake2b(body, digest_size=8).hexdigest()
    return body, gzip.compress(body, 9), kind, digest


def asset_url(name: str) -> str:
    """Where a file is; another address when it changes."""
    return f"/console/static/{name}?v={_asset(name)[3]}"


async def static(call: Call) -> Response:
    """A script, style sheet or picture of ours."""
    name = call.path_params["name"]
    if name not in _names():
        raise HeliometerError(Code.NOT_FOUND, "There is no such file.")
    body, packed, kind, digest = _asset(name)
    newest = call.request.query_params.get("v") == digest
    headers = {
        # Another address when it changes: only that one may be kept for ever.
        "Cache-Control": "public, max-age=31536000, immutable" if newest else "no-cache",
        "ETag": f'"{digest}"',
        "Vary": "Accept-Encoding",
    }
    if call.request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in call.request.headers.get("accept-encoding", ""):
        return Response(packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=kind)
    return Response(body, headers=headers, media_type=kind)


# -- what was said ----------------------------------------------------------------------------


def _read_flash(call: Call) -> str:
    return unquote_to_bytes(call.request.cookies.get(FLASH, "")).decode("utf-8", "replace")[:300]


def _beside(error: HeliometerError, form: Mapping[str, str]) -> dict[str, str]:
    """The error by the field that it is about: messages begin with the item's path."""
    path, colon, rest = error.message.partition(": ")
    name = path.rpartition(".")[2].rpartition("]")[2] or path
    if colon and name in form:
        return {name: f"{rest[:1].upper()}{rest[1:]} {error.details}".strip()}
    return {"": f"{error.message} {error.details}".strip()}
