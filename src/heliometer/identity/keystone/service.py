"""Identity by Keystone v3: users, projects and tokens are checked there and remembered briefly."""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any

from heliometer.config import Settings, parse_roles
from heliometer.core.bounded import put_newest
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.quotas import Quotas
from heliometer.core.single_flight import SingleFlight
from heliometer.identity.accounts import (
    Issued,
    Membership,
    Project,
    Token,
    TokenOwner,
    User,
    check_password,
)
from heliometer.identity.basic_auth_cache import BasicAuthCache, only_project
from heliometer.identity.cache import FRESH_S, Known, TokenCache
from heliometer.identity.keystone.client import Answer, Keystone, issued, unavailable
from heliometer.identity.keystone.documents import (
    Issue,
    ProjectsReply,
    Roles,
    TokenReply,
)
from heliometer.identity.keystone.faults import receipt_of, refusal
from heliometer.identity.keystone.projects import KeystoneProjects
from heliometer.identity.keystone.references import (
    NAME_LENGTH,
    domain_of,
    limiter_key,
    scope_document,
    user_document,
)
from heliometer.identity.model import Caller, unauthenticated
from heliometer.identity.sign_in_limiter import SignInLimiter

TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
"""Fernet tokens have about 200 characters, signed ones (JWS) more."""
USER_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
REMEMBERED = 1000
"""Tokens whose projects are remembered."""


class KeystoneIdentity:
    """Implements ``identity.ports.Identity``. Users and projects are referred to by id or name;
    ``DOMAIN\\name`` is for domains other than the default one.

    ``clock`` is the wall clock and ``monotonic`` a monotonic one, both in seconds; answers are
    used for ``fresh_s`` seconds.
    """

    def __init__(
        self,
        keystone: Keystone,
        projects: KeystoneProjects,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        quotas: Quotas | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._keystone = keystone
        self._projects = projects
        self._default_domain = settings.identity.keystone_domain
        self._roles = Roles(parse_roles(settings.identity.keystone_roles))
        self._clock = clock
        self._fresh_s = fresh_s
        self._sign_in_limiter = SignInLimiter(settings.limits.sign_in_failures, monotonic, quotas)
        self._cache = TokenCache(monotonic, fresh_s=fresh_s)
        self._lookups: SingleFlight[bytes, Known] = SingleFlight()
        self._basic_auth = BasicAuthCache(monotonic)
        self._memberships: dict[bytes, tuple[float, list[Membership]]] = {}

    async def authenticate(self, token: str) -> Caller:
        """Return the caller; raise UNAUTHENTICATED or UNAVAILABLE. The answer may be 30 s old."""
        digest = _digest(token)
        if digest is None:
            raise unauthenticated()
        known = self._cache.get(digest) or await self._lookups.of(
            digest, lambda: self._read(token, digest)
        )
        if known.caller is None or self._clock() >= known.expires_at:
            raise unauthenticated()
        return known.caller

    async def validate(self, token: str) -> TokenOwner:
        """What a token stands for, fresh from Keystone; raise UNAUTHENTICATED if nothing."""
        digest = _digest(token)
        issue = None if digest is None else await self._ask(token)
        if digest is None or issue is None or self._clock() >= issue.expires_at.timestamp():
            raise unauthenticated()
        return self._owner(issue, digest)

    async def authenticate_password(
        self, user: str, password: str, address: str | None, project: str | None = None
    ) -> Issued:
        """Sign in at Keystone; without a project the token is unscoped."""
        unscoped = await self._verified(user, password, address)
        if project is None:
            return unscoped
        return await self._rescoped(unscoped.secret, project, domain_of(user))

    async def authenticate_basic(
        self, user: str, password: str, address: str | None, project: str | None
    ) -> Caller:
        """Return the caller of a request that comes with a password, in its only project unless
        one is named. The password is verified once, for a token of Keystone like any other."""

        async def issue(unscoped: Issued) -> str:
            wanted = project
            if wanted is None:
                known = await self.memberships(unscoped.secret)
                wanted = only_project(unscoped.owner.user.name, known).project.id
            return (await self._rescoped(unscoped.secret, wanted, domain_of(user))).secret

        return await self._basic_auth.caller(
            (user, password, project or ""),
            self.authenticate,
            lambda: self._verified(user, password, address),
            issue,
        )

    async def authenticate_token(self, token: str, project: str | None = None) -> Issued:
        """Exchange a token for one of another scope."""
        return await self._rescoped(token, project, None)

    async def memberships(self, token: str) -> list[Membership]:
        """The enabled projects of the token's user, by name. The roles are left empty."""
        await self.authenticate(token)
        digest = _sha256(token)
        found = self._memberships.get(digest)
        asked_at = self._cache.now()
        if found is not None and asked_at - found[0] < self._fresh_s:
            return found[1]
        answer = await self._keystone.ask("GET", "/auth/projects", token=token)
        if answer.status != 200:
            raise refusal(answer)
        entries = answer.read(ProjectsReply).projects
        memberships = [
            Membership(Project(entry.id, entry.name), "")
            for entry in sorted(entries, key=lambda entry: (entry.name, entry.id))
            if entry.enabled
        ]
        put_newest(self._memberships, digest, (asked_at, memberships), REMEMBERED)
        return memberships

    async def revoke(self, token: str) -> None:
        """End a token: at once in this process, within 60 s in others."""
        digest = _digest(token)
        if digest is None:
            return
        try:
            answer = await self._keystone.ask("DELETE", "/auth/tokens", token=token, subject=token)
            if answer.status not in (204, 401, 404):  # the last two: it was void already
                raise refusal(answer)
        finally:
            self.forget(token)

    def forget(self, token: str) -> None:
        """Forget the answers about a token."""
        digest = _digest(token)
        if digest is not None:
            self._cache.revoke(digest)
            self._memberships.pop(digest, None)

    async def sign_in(
        self, document: Any, subject: str | None, address: str | None, receipt: str = ""
    ) -> Answer:
        """Pass a v3 sign-in on to Keystone; return its answer.

        ``subject`` is the user whose password or the like is tried, if any. Raises RATE_LIMITED
        after too many failures of that user.
        """
        path = "/auth/tokens?nocatalog"
        if subject is None:
            return await self._keystone.ask("POST", path, document=document, receipt=receipt)
        async with self._sign_in_limiter.admitted(subject, address or "") as attempt:
            answer = await self._keystone.ask("POST", path, document=document, receipt=receipt)
            if answer.status == 201 or receipt_of(answer):
                attempt.succeeded()
            elif answer.status != 401:
                attempt.withdrawn()
            elif document["auth"].get("scope") not in (None, "unscoped"):
                # Keystone gives the same answer for a wrong password and a wrong project.
                identity = document["auth"]["identity"]
                again = {"auth": {"identity": identity, "scope": "unscoped"}}
                if (await self._keystone.ask("POST", path, document=again)).status == 201:
                    attempt.succeeded()
        return answer

    async def change_password(
        self, user_id: str, original: str, password: str, address: str | None
    ) -> Answer:
        """Pass a change of one's own password on to Keystone; return its answer.

        The original password may be guessed here as in a sign-in, and is limited alike.
        """
        if not USER_ID.fullmatch(user_id):
            raise unauthenticated()
        document = {"user": {"original_password": original, "password": password}}
        async with self._sign_in_limiter.admitted(user_id, address or "") as attempt:
            answer = await self._keystone.ask(
                "POST", f"/users/{user_id}/password", document=document
            )
            if answer.status == 204:
                attempt.succeeded()
            elif answer.status != 401:
                attempt.withdrawn()
        return answer

    async def ask(self, method: str, path: str, token: str, subject: str = "") -> Answer:
        """Pass a user's request on to Keystone. Raises UNAUTHENTICATED without a token, and
        UNAVAILABLE."""
        if not TOKEN.fullmatch(token):
            raise unauthenticated()
        if subject and not TOKEN.fullmatch(subject):
            raise HeliometerError(Code.NOT_FOUND, "Could not find the token.")
        return await self._keystone.ask(method, path, token=token, subject=subject)

    async def _read(self, token: str, digest: bytes) -> Known:
        while True:
            generation, asked_at = self._cache.generation, self._cache.now()
            issue = await self._ask(token)
            if generation == self._cache.generation:
                break
            # Something was revoked meanwhile, possibly this token.
        known = Known(None, 0.0) if issue is None else await self._known(issue)
        self._cache.put(digest, asked_at, known)
        return known

    async def _ask(self, token: str) -> Issue | None:
        answer = await self._keystone.as_service("GET", "/auth/tokens?nocatalog", subject=token)
        if answer.status == 200:
            issue = answer.read(TokenReply).token
            # Such a token is valid only together with a certificate, which is not visible here.
            return None if issue.oauth2_credential is not None else issue
        if answer.status in (400, 404, 413, 414, 431):
            return None
        raise self._not_allowed(answer)

    def _not_allowed(self, answer: Answer) -> HeliometerError:
        self._keystone.complain(
            f"does not let the service user check tokens ({answer.status}): give it the role "
            "service or admin in its project"
        )
        return unavailable()

    async def _known(self, issue: Issue) -> Known:
        project = issue.project
        if project is not None:
            await self._projects.seen(project)
        caller = Caller(
            user_id=issue.user.id,
            user_name=issue.user.name,
            project_id=project.id if project else "",
            project_name=project.name if project else "",
            permissions=self._roles.of(issue.roles).permissions if project else frozenset(),
        )
        return Known(caller, issue.expires_at.timestamp())

    async def _verified(self, user: str, password: str, address: str | None) -> Issued:
        check_password(password)
        given = user_document(user, self._default_domain)
        if given is None:
            raise unauthenticated()
        identity = {
            "methods": ["password"],
            "password": {"user": {**given, "password": password}},
        }
        document = {"auth": {"identity": identity, "scope": "unscoped"}}
        answer = await self.sign_in(document, limiter_key(given), address)
        if answer.status != 201:
            raise refusal(answer)
        return self._issued(answer)

    async def _rescoped(self, token: str, project: str | None, domain: str | None) -> Issued:
        if not TOKEN.fullmatch(token):
            raise unauthenticated()
        identity = {"methods": ["token"], "token": {"id": token}}
        scope: Any = "unscoped"
        why = ""
        if project is not None:
            scope = scope_document(project, domain, self._default_domain)
            # Keystone does not say which of the two it is.
            why = f"You do not belong to a project {project[:NAME_LENGTH]!r}, or signed out."
        if scope is None:
            raise unauthenticated(why)
        document = {"auth": {"identity": identity, "scope": scope}}
        answer = await self._keystone.ask("POST", "/auth/tokens?nocatalog", document=document)
        if answer.status == 201:
            return self._issued(answer)
        raise unauthenticated(why) if answer.status in (401, 404) else refusal(answer)

    def _issued(self, answer: Answer) -> Issued:
        secret, issue = issued(answer)
        return Issued(secret, self._owner(issue, _sha256(secret)))

    def _owner(self, issue: Issue, digest: bytes) -> TokenOwner:
        project = issue.project
        token = Token(
            digest=digest,
            user_id=issue.user.id,
            project_id=project.id if project else None,
            methods=issue.methods,
            issued_at=int(issue.issued_at.timestamp() * 1000),
            expires_at=int(issue.expires_at.timestamp() * 1000),
            audit_ids=issue.audit_ids,
        )
        membership = None
        if project is not None:
            role = self._roles.of(issue.roles).role
            membership = Membership(Project(project.id, project.name), role)
        return TokenOwner(token, User(issue.user.id, issue.user.name, ""), membership)


def _digest(token: str) -> bytes | None:
    """The token's digest; ``None`` for what cannot be a token."""
    return _sha256(token) if TOKEN.fullmatch(token) else None


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
