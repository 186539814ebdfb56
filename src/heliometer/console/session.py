"""Who sits in front of the browser: a cookie with a token, and proof that forms are our own."""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Membership
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import Caller, Permission
from heliometer.identity.signing import Identity, Issued

COOKIE = "heliometer_session"
PATH = "/console"
COOKIE_LENGTH = 3800
"""Browsers keep no larger cookies, with what belongs to them."""
TRIED = 20
"""Projects of a user that are tried until it has a role in one that counts here."""


@dataclass(frozen=True, slots=True)
class Session:
    """A user who signed in, in one of its projects."""

    caller: Caller
    token: str
    memberships: tuple[Membership, ...]
    at_home: bool = True
    """Whether users live here, so that they can be managed and all their sessions ended."""

    @property
    def proof(self) -> str:
        """What forms must carry: made of the token, which no other site can read."""
        # Of all of it: signed tokens (JWS) begin with what anybody can guess.
        key = hashlib.sha256(self.token.encode()).digest()
        return hashlib.blake2b(b"form", key=key, digest_size=20).hexdigest()

    @property
    def is_admin(self) -> bool:
        """Whether users and projects are its business."""
        return Permission.ADMINISTER in self.caller.permissions


class Sessions:
    """Sessions are tokens of the identity: they end as those do, and can be ended as those can."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.at_home = isinstance(identity, BuiltinIdentity)

    async def of(self, request: Request) -> Session | None:
        """The session of a request; None: nobody is signed in, or not any more."""
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
        """A token for a user's project, the first one unless one is named. Raises as
        ``authenticate_password``, and FORBIDDEN for a user without a project."""
        issued = await self.identity.authenticate_password(user, password, address, project)
        if project is None:
            issued = await self._first_project(issued)
        if len(issued.secret) > COOKIE_LENGTH:
            await self.identity.revoke(issued.secret)
            raise HeliometerError(
                Code.FORBIDDEN,
                "Your token is longer than what browsers keep.",
                details="Use the API, or tell the operator.",
            )
        return issued.secret

    async def _first_project(self, unscoped: Issued) -> Issued:
        """The session in the first of the user's projects in which it has a role."""
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
        """The session in another project of the user; the old token ends, where it may."""
        try:
            issued = await self.identity.authenticate_token(token, project)
        except HeliometerError as error:
            if error.code is not Code.FORBIDDEN:
                raise
            # Its setting allow_rescope_scoped_token is off.
            raise HeliometerError(
                Code.FORBIDDEN,
                "Keystone does not let a session change its project.",
                details="Sign out, and sign in with the other project's name.",
            ) from error
        await self._end(token)
        return issued.secret

    async def _end(self, token: str) -> None:
        if self.at_home:  # Keystone would end what was made of it, too.
            await self.identity.revoke(token)

    async def sign_out(self, session: Session, *, everywhere: bool) -> None:
        """End the session, or all of the user's sessions and tokens."""
        if everywhere and isinstance(self.identity, BuiltinIdentity):
            await self.identity.revoke_all(session.caller.user_id)
        else:
            await self.identity.revoke(session.token)


def check_origin(request: Request, base_url: str) -> None:
    """Raise FORBIDDEN for a form that another site's page sends."""
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
        own = True  # no browser of this decade
    if not own:
        raise HeliometerError(
            Code.FORBIDDEN,
            "This was sent by a page of another site.",
            details="Open the console itself and try again.",
        )


def check_proof(session: Session, given: str) -> None:
    """Raise FORBIDDEN for a form that is not of this session."""
    if not hmac.compare_digest(session.proof.encode(), given.encode("utf-8", "replace")):
        raise HeliometerError(
            Code.FORBIDDEN,
            "The form is of another session.",
            details="You signed in anew meanwhile: load the page again, and send it again.",
        )


def keep(response: Response, token: str, request: Request) -> Response:
    """Have the browser keep the session."""
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
    """Have the browser forget it."""
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="lax")
    return response
