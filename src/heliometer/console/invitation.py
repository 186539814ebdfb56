"""The page that an invitation's link opens, for who is not signed in."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from heliometer.console.forms import errors_by_field, read_form
from heliometer.console.page_request import SOURCE
from heliometer.console.rendering import environment, html_response
from heliometer.console.session import Sessions, check_origin, keep
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import STATUS, Call, Operation
from heliometer.identity.builtin.password_rules import SHORTEST
from heliometer.identity.invitations import Invitation, Invitations


class InvitationPage:
    """Joining a project with the user that one has, or with a new one."""

    def __init__(self, sessions: Sessions, invitations: Invitations) -> None:
        self._sessions = sessions
        self._invitations = invitations

    def operations(self) -> tuple[Operation, ...]:
        """Operations that need no session."""
        path, summary = "/invitation", "Accept an invitation"
        return (
            Operation("GET", path, summary, SOURCE, self.show, foreign=True),
            Operation("POST", path, summary, SOURCE, self.accept, foreign=True),
        )

    async def show(self, call: Call) -> Response:
        code = call.request.query_params.get("code", "")
        return _page(call, await self._invitations.show(code), code)

    async def accept(self, call: Call) -> Response:
        check_origin(call.request, call.base_url)
        form, _ = await read_form(call)
        code, name, password = (form.get(key, "") for key in ("code", "user", "password"))
        invitation = await self._invitations.show(code)
        client = call.request.client.host if call.request.client else None
        try:
            if form.get("is_new") == "1":
                await self._invitations.accept_new(code, name, password)
            else:
                await self._join(code, name, password, client)
            token = await self._sessions.sign_in(name, password, client, invitation.project_id)
        except HeliometerError as error:
            if error.code in (Code.INTERNAL, Code.UNAVAILABLE, Code.NOT_FOUND):
                raise
            if error.code is Code.UNAUTHENTICATED:
                error = HeliometerError(
                    Code.UNAUTHENTICATED, "The user or the password is not right."
                )
            errors = errors_by_field(error, form)
            page = _page(call, invitation, code, STATUS[error.code], form=form, errors=errors)
            if error.retry_after is not None:
                page.headers["Retry-After"] = str(error.retry_after)
            return page
        return keep(RedirectResponse("/console", 303), token, call.request)

    async def _join(self, code: str, name: str, password: str, client: str | None) -> None:
        identity = self._sessions.identity
        issued = await identity.authenticate_password(name, password, client)
        try:
            await self._invitations.accept(await identity.authenticate(issued.secret), code)
        finally:
            await identity.revoke(issued.secret)


def _page(
    call: Call, invitation: Invitation, code: str, status: int = 200, **context: Any
) -> Response:
    given = {"form": {}, "errors": {}, "shortest": SHORTEST, **context}
    html = (
        environment()
        .get_template("invitation.html")
        .render(invitation=invitation, code=code, **given)
    )
    return html_response(call, html, status)
