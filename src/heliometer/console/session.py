"""Sessions: a cookie with a token, and protection against forged forms."""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Issued, Membership
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import Caller, Permission
from heliometer.identity.ports import Identity

COOKIE = "heliometer_session"
PATH = "/console"
COOKIE_LENGTH = 3800
"""Longer tokens would exceed what browsers store in a cookie."""
TRIED = 20
"""Most projects of a user that are searched for one with a recognised role."""


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in user in one of its projects."""

    caller: Caller
    token: str
    memberships: tuple[Membership, ...]
    at_home: bool = True
    """Whether the identity is built in: users can be managed, and all their sessions ended."""

    @property
    def proof(self) -> str:
        """The value that forms must carry, derived from the token, which no other site knows."""
        # The whole token, since signed ones (JWS) begin with guessable text.
        key = hashlib.sha256(self.token.encode()).digest()
        return hashlib.blake2b(b"form", key=key, digest_size=20).hexdigest()

    @property
    def is_admin(self) -> bool:
        """Whether the user may manage the project's members."""
        return Permission.ADMINISTER in self.caller.permissions

    @property
    def is_operator(self) -> bool:
        """Whether the user may manage all users and projects."""
        return Permission.OPERATE in self.caller.permissions


class Sessions:
    """Sessions are tokens of the identity: they expire and are revoked with them."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.at_home = isinstance(identity, BuiltinIdentity)

    async def of(self, request: Request) -> Session | None:
        """The session of a request; ``None`` if there is none or it has ended."""
        token = request.cookies.get(COOKIE, "")
        if not token:
            return None
        try:
            caller = await self.identity.authenticate(token)
            memberships = await self.identity.memberships(token)
        except HeliometerError as error:
            if error.code is Code.UNAUTHENTICATED:
                return None
            raise
        if not caller.project_id:
            return None
        return Session(caller, token, tuple(memberships), self.at_home)

    async def sign_in(
        self, user: str, password: str, address: str | None, project: str | None
    ) -> str:
        """A token for a project of the user, by default the first.

        Raises as ``authenticate_password``, and FORBIDDEN for a user without a project.
        """
        issued = await self.identity.authenticate_password(user, password, address, project)
        if project is None:
            issued = await self._first_project(issued)
        if len(issued.secret) > COOKIE_LENGTH:
            await self.identity.revoke(issued.secret)
            raise HeliometerError(
                Code.FORBIDDEN,
                "Your token is too long for a browser's cookie.",
                details="Use the API, or tell the operator.",
            )
        return issued.secret

    async def _first_project(self, unscoped: Issued) -> Issued:
        """A token for the first project in which the user has a role."""
        for membership in (await self.identity.memberships(unscoped.secret))[:TRIED]:
            issued = await self.identity.authenticate_token(unscoped.secret, membership.project.id)
            if issued.owner.membership is not None and issued.owner.membership.role:
                await self._end(unscoped.secret)
                return issued
        raise HeliometerError(
            Code.FORBIDDEN,
            "You belong to no project yet.",
            details="Ask the operator: heliometer user grant."
            if self.at_home
            else "Ask the operator for a role that counts here.",
        )

    async def switch(self, token: str, project: str) -> str:
        """A token for another project of the user; ends the old one if the identity is built in."""
        try:
            issued = await self.identity.authenticate_token(token, project)
        except HeliometerError as error:
            if error.code is not Code.FORBIDDEN:
                raise
            # Keystone's allow_rescope_scoped_token is off.
            raise HeliometerError(
                Code.FORBIDDEN,
                "Keystone does not let a session change its project.",
                details="Sign out, and sign in with the other project's name.",
            ) from error
        await self._end(token)
        return issued.secret

    async def _end(self, token: str) -> None:
        if self.at_home:  # Keystone would revoke the tokens derived from it, too.
            await self.identity.revoke(token)

    async def sign_out(self, session: Session, *, everywhere: bool) -> None:
        """End this session, or all of the user's sessions and tokens."""
        if everywhere and isinstance(self.identity, BuiltinIdentity):
            await self.identity.revoke_all(session.caller.user_id)
        else:
            await self.identity.revoke(session.token)


def check_origin(request: Request, base_url: str) -> None:
    """Raise FORBIDDEN for a form that a page of another site submitted."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        own = site in ("same-origin", "none")
    elif origin is not None:
        own = urlsplit(origin).netloc in (
            request.headers.get("host", ""),
            urlsplit(base_url).netloc,
        )
    else:
        own = True  # every current browser sends one of these headers
    if not own:
        raise HeliometerError(
            Code.FORBIDDEN,
            "This form was submitted by another site.",
            details="Open the console and try again.",
        )


def check_proof(session: Session, given: str) -> None:
    """Raise FORBIDDEN for a form of another session."""
    if not hmac.compare_digest(session.proof.encode(), given.encode("utf-8", "replace")):
        raise HeliometerError(
            Code.FORBIDDEN,
            "The form is of another session.",
            details="You have signed in again since: reload the page, and send it again.",
        )


def keep(response: Response, token: str, request: Request) -> Response:
    """Set the session's cookie."""
    response.set_cookie(
        COOKIE,
        token,
        path=PATH,
        httponly=True,
        samesite="lax",
        secure=request.scope["scheme"] == "https"
        or request.headers.get("x-forwarded-proto") == "https",
    )
    return response


def forget(response: Response) -> Response:
    """Delete the session's cookie."""
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="lax")
    return response
