"""A request to a page by a signed-in user, and the page that answers it."""

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlencode

import msgspec
from starlette.responses import RedirectResponse, Response

from heliometer.console.forms import errors_by_field, read_form
from heliometer.console.rendering import compressed, environment, html_response
from heliometer.console.session import Session, Sessions, check_origin, check_proof
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import STATUS, Call, Operation
from heliometer.identity.model import Permission

log = logging.getLogger(__name__)

SOURCE = "beyond the documents (v1.1 §2.2.1)"
NOTICE = "heliometer_said"
"""The cookie that carries a notice to the next page."""
NOTICE_LENGTH = 300
NAVIGATION = (
    ("overview", "Overview", "/console"),
    ("metrics", "Metrics", "/console/metrics"),
    ("alarms", "Alarms", "/console/alarms"),
    ("notifications", "Notifications", "/console/notifications"),
    ("feed", "Feed", "/console/feed"),
    ("meters", "Meters", "/console/meters"),
)
PEOPLE = ("people", "Projects and users", "/console/people")
AUDIT = ("audit", "Audit trail", "/console/audit")
MEMBERS = ("people", "Members", "/console/people")


@dataclass(slots=True)
class PageRequest:
    """A request by a signed-in user."""

    call: Call
    session: Session
    form: Mapping[str, str] = field(default_factory=dict)
    """The last value of each field."""
    many: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """All values of each field."""

    @property
    def query(self) -> Mapping[str, str]:
        """The last value of each parameter of the URL."""
        return self.call.request.query_params

    def queries(self, name: str) -> list[str]:
        """All values of a parameter."""
        return self.call.request.query_params.getlist(name)

    def path(self, name: str) -> str:
        """A variable segment of the path."""
        return self.call.path_params[name]

    def allows(self, permission: Permission) -> bool:
        """Whether the user's role has the permission."""
        return permission in self.session.caller.permissions

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """A page inside the console's frame."""
        notice = _read_notice(self.call)
        manages_people = self.session.is_admin and self.session.at_home
        people = PEOPLE if self.session.is_operator else MEMBERS
        html = (
            environment()
            .get_template(template)
            .render(
                request=self,
                session=self.session,
                caller=self.session.caller,
                can_manage=self.allows(Permission.MANAGE),
                navigation=[
                    *NAVIGATION,
                    *([people] if manages_people else []),
                    *([AUDIT] if self.session.is_admin else []),
                ],
                base_url=self.call.base_url,
                said=notice,
                values=self.form,
                many=self.many,
                **{"errors": {}, "error": None, "section": "", **context},
            )
        )
        response = html_response(self.call, html, status)
        if notice:
            response.delete_cookie(NOTICE, path="/console")
        return response

    def wrong(self, template: str, error: HeliometerError, **context: Any) -> Response:
        """The page again, with the input and the error beside its field.

        Raises the error itself if it is not about the input.
        """
        if error.code in (Code.INTERNAL, Code.UNAVAILABLE):
            raise error
        errors = errors_by_field(error, self.form)
        return self.page(template, status=STATUS[error.code], error=error, errors=errors, **context)

    def go(self, path: str, notice: str = "") -> Response:
        """Redirect to another page, which shows the notice."""
        response = RedirectResponse(path, 303)
        if notice:
            text = quote_from_bytes(notice[:NOTICE_LENGTH].encode())
            response.set_cookie(
                NOTICE, text, max_age=30, path="/console", httponly=True, samesite="lax"
            )
        return response

    def json(self, document: Any) -> Response:
        """Answer a script with JSON."""
        return compressed(self.call, msgspec.json.encode(document), "application/json", 200)


Handler = Callable[[PageRequest], Awaitable[Response]]


def pages(
    sessions: Sessions, section: Sequence[tuple[str, str, str, Handler, Permission]]
) -> tuple[Operation, ...]:
    """Operations for signed-in users, from (method, path, summary, handler, permission)."""
    return tuple(
        Operation(method, path, summary, SOURCE,
                  functools.partial(_answer, sessions, handler, permission), foreign=True)
        for method, path, summary, handler, permission in section
    )  # fmt: skip


async def _answer(
    sessions: Sessions, handler: Handler, permission: Permission, call: Call
) -> Response:
    session = await sessions.of(call.request)
    if session is None:
        return _to_sign_in(call)
    call.caller_or_none = session.caller
    request = PageRequest(call, session)
    try:
        if call.request.method == "POST":
            check_origin(call.request, call.base_url)
            request.form, request.many = await read_form(call)
            check_proof(session, request.form.get("proof", ""))
        session.caller.require(permission)
        return await handler(request)
    except HeliometerError as error:
        if error.code is Code.INTERNAL:
            log.error("a page failed: %s", error)
        return request.page("error.html", status=STATUS[error.code], error=error)


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


def _read_notice(call: Call) -> str:
    text = unquote_to_bytes(call.request.cookies.get(NOTICE, "")).decode("utf-8", "replace")
    return text[:NOTICE_LENGTH]
