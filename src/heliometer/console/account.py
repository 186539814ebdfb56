"""The page of one's own account: changing the password."""

from collections.abc import Sequence

from starlette.responses import Response

from heliometer.console.forms import error_of_field
from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.identity.builtin.password_rules import SHORTEST
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import Permission


def section(identity: BuiltinIdentity) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The page and its form."""
    page = AccountPage(identity)
    return (
        ("GET", "/account", "Your account", page.show, Permission.READ),
        ("POST", "/account/password", "Change your password", page.change, Permission.READ),
    )


class AccountPage:
    """The user, its roles, and a form for the password."""

    def __init__(self, identity: BuiltinIdentity) -> None:
        self._identity = identity

    async def show(self, request: PageRequest) -> Response:
        return request.page("account.html", section="account", shortest=SHORTEST)

    async def change(self, request: PageRequest) -> Response:
        form, caller = request.form, request.session.caller
        client = request.call.request.client
        try:
            if form.get("password", "") != form.get("again", ""):
                raise Invalid("again: it differs from the new password.")
            await self._identity.change_password(
                caller.user_id,
                form.get("original", ""),
                form.get("password", ""),
                client.host if client else None,
            )
        except HeliometerError as error:
            if error.code is Code.UNAUTHENTICATED:
                error = HeliometerError(Code.FORBIDDEN, "original: it is not your password.")
            elif error.code is not Code.INVALID:
                error = error_of_field("original", error)
            return request.wrong("account.html", error, section="account", shortest=SHORTEST)
        # All sessions have ended, this one too: signing in comes next.
        return request.go("/console/account", "Your password is changed.")
