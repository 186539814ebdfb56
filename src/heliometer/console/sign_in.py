"""Signing in and out, and changing the project."""

from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.responses import RedirectResponse, Response

from heliometer.console.forms import read_form
from heliometer.console.page_request import SOURCE
from heliometer.console.rendering import environment, html_response
from heliometer.console.session import Sessions, check_origin, check_proof, forget, keep
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import STATUS, Call, Operation


class SignIn:
    """Signs users in and out, and switches between their projects."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def operations(self) -> tuple[Operation, ...]:
        """Operations that need no session."""
        return (
            Operation("GET", "/sign-in", "Sign in", SOURCE, self.form, foreign=True),
            Operation("POST", "/sign-in", "Sign in", SOURCE, self.sign_in, foreign=True),
            Operation("POST", "/sign-out", "Sign out", SOURCE, self.sign_out, foreign=True),
            Operation("POST", "/project", "Change the project", SOURCE, self.switch, foreign=True),
        )

    async def form(self, call: Call) -> Response:
        if await self._sessions.of(call.request) is not None:
            return RedirectResponse(_next(call.request.query_params.get("next")), 303)
        return _page(
            call, next=_next(call.request.query_params.get("next")), at_home=self._sessions.at_home
        )

    async def sign_in(self, call: Call) -> Response:
        check_origin(call.request, call.base_url)
        given, _ = await read_form(call)
        client = call.request.client.host if call.request.client else None
        try:
            token = await self._sessions.sign_in(
                given.get("user", ""), given.get("password", ""), client,
                given.get("project", "").strip() or None,
            )  # fmt: skip
        except HeliometerError as error:
            if error.code not in (
                Code.UNAUTHENTICATED, Code.RATE_LIMITED, Code.FORBIDDEN, Code.INVALID,
            ):  # fmt: skip
                raise
            text = f"{error.message} {error.details}".strip()
            if error.code is Code.UNAUTHENTICATED and "project" not in text:
                text = "The user or the password is not right."
            page = _page(
                call, STATUS[error.code], next=_next(given.get("next")), error=text,
                user=given.get("user", ""), project=given.get("project", ""),
                at_home=self._sessions.at_home,
            )  # fmt: skip
            if error.retry_after is not None:
                page.headers["Retry-After"] = str(error.retry_after)
            return page
        return keep(RedirectResponse(_next(given.get("next")), 303), token, call.request)

    async def sign_out(self, call: Call) -> Response:
        session = await self._sessions.of(call.request)
        if session is not None:
            check_origin(call.request, call.base_url)
            given, _ = await read_form(call)
            check_proof(session, given.get("proof", ""))
            await self._sessions.sign_out(session, everywhere="everywhere" in given)
        return forget(RedirectResponse("/console/sign-in", 303))

    async def switch(self, call: Call) -> Response:
        session = await self._sessions.of(call.request)
        if session is None:
            return RedirectResponse("/console/sign-in", 303)
        check_origin(call.request, call.base_url)
        given, _ = await read_form(call)
        check_proof(session, given.get("proof", ""))
        token = await self._sessions.switch(session.token, given.get("project", ""))
        # The same section, but not the same page: its resource is not in the other project.
        section = given.get("section", "")
        path = f"/console/{section}" if section.isalpha() else "/console"
        return keep(RedirectResponse(path, 303), token, call.request)


def _next(target: str | None) -> str:
    """Where to go after signing in: never outside the console, whatever the link says."""
    if target and (target == "/console" or target.startswith(("/console/", "/console?"))):
        segments = unquote(urlsplit(target).path).split("/")
        # A browser resolves dots itself, and takes what follows an empty segment for a host.
        if not {".", "..", ""} & set(segments[1:-1]) and segments[-1] not in (".", ".."):
            return target
    return "/console"


def _page(call: Call, status: int = 200, **context: Any) -> Response:
    given = {"error": "", "user": "", "project": "", **context}
    return html_response(call, environment().get_template("sign_in.html").render(given), status)
