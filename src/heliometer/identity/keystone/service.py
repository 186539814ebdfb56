"""Identity by Keystone v3: its users, projects and tokens, checked there and remembered briefly."""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any

from heliometer.config import Settings, parse_roles
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.single_flight import SingleFlight
from heliometer.identity.accounts import (
    Membership,
    Project,
    Token,
    TokenOwner,
    User,
    check_password,
    normalized,
)
from heliometer.identity.basic_auth_cache import StandingTokens, only_project
from heliometer.identity.cache import FRESH_S, Known, TokenCache
from heliometer.identity.keystone.client import Answer, Keystone, issued, unavailable
from heliometer.identity.keystone.documents import (
    Issue,
    ProjectsReply,
    Roles,
    TokenReply,
    fault_message,
)
from heliometer.identity.keystone.projects import KeystoneProjects
from heliometer.identity.model import Caller
from heliometer.identity.sign_in_limiter import SignInLimiter
from heliometer.identity.signing import Issued, unauthenticated

TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
"""Fernet tokens have about 200 characters, signed ones (JWS) more."""
ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
"""Users' and projects' ids; those of users in LDAP have 64 digits."""
NAME_LENGTH = 255
SOME = 1000
"""Users whose projects are remembered."""
CODES = {
    400: Code.MALFORMED,
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    409: Code.CONFLICT,
    413: Code.TOO_LARGE,
}


class KeystoneIdentity:
    """Implements ``identity.signing.Identity``. Users and projects are referred to by id or name;
    ``DOMAIN\\name`` names those of another domain than the default one.

    ``clock`` is the wall clock and ``monotonic`` one that nobody sets, both in seconds; answers
    are used for ``fresh_s`` seconds.
    """

    def __init__(
        self,
        keystone: Keystone,
        projects: KeystoneProjects,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._keystone = keystone
        self._projects = projects
        self._default_domain = settings.identity.keystone_domain
        self._roles = Roles(parse_roles(settings.identity.keystone_roles))
        self._clock = clock
        self._fresh_s = fresh_s
        self._gate = SignInLimiter(settings.limits.sign_in_failures, monotonic)
        self._cache = TokenCache(monotonic, fresh_s=fresh_s)
        self._lookups: SingleFlight[bytes, Known] = SingleFlight()
        self._standing = StandingTokens(monotonic)
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
        return await self._rescoped(unscoped.secret, project, _domain(user))

    async def authenticate_basic(
        self, user: str, password: str, address: str | None, project: str | None
    ) -> Caller:
        """Return the caller of a request that comes with a password, in its only project unless
        one is named. The password is verified once: what it was good for is a token of Keystone's
        like any other."""

        async def issue(unscoped: Issued) -> str:
            wanted = project
            if wanted is None:
                known = await self.memberships(unscoped.secret)
                wanted = only_project(unscoped.owner.user.name, known).project.id
            return (await self._rescoped(unscoped.secret, wanted, _domain(user))).secret

        return await self._standing.caller(
            (user, password, project or ""),
            self.authenticate,
            lambda: self._verified(user, password, address),
            issue,
        )

    async def authenticate_token(self, token: str, project: str | None = None) -> Issued:
        """Exchange a token for one of another scope."""
        return await self._rescoped(token, project, None)

    async def memberships(self, token: str) -> list[Membership]:
        """The enabled projects of the token's user, by name. Which role it has in each is not
        known."""
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
        self._memberships.pop(digest, None)
        if len(self._memberships) >= SOME:
            del self._memberships[next(iter(self._memberships))]
        self._memberships[digest] = (asked_at, memberships)
        return memberships

    async def revoke(self, token: str) -> None:
        """End a token: at once in this process, within 60 s in others."""
        digest = _digest(token)
        if digest is None:
            return
        try:
            answer = await self._keystone.ask("DELETE", "/auth/tokens", token=token, subject=token)
            if answer.status not in (204, 401, 404):  # those: it was no good any more
                raise refusal(answer)
        finally:
            self.forget(token)

    def forget(self, token: str) -> None:
        """Ask again what the token is good for."""
        digest = _digest(token)
        if digest is not None:
            self._cache.revoke(digest)
            self._memberships.pop(digest, None)

    async def sign_in(
        self, document: Any, subject: str | None, address: str | None, receipt: str = ""
    ) -> Answer:
        """Hand a v3 sign-in on to Keystone, and return whatever it answers.

        ``subject`` is the user who proves to be that, if a password or the like does so. Raises
        RATE_LIMITED after too many failures of that user.
        """
        path = "/auth/tokens?nocatalog"
        if subject is None:
            return await self._keystone.ask("POST", path, document=document, receipt=receipt)
        async with self._gate.admitted(subject, address or "") as attempt:
            answer = await self._keystone.ask("POST", path, document=document, receipt=receipt)
            if answer.status == 201 or receipt_of(answer):
                attempt.succeeded()
            elif answer.status != 401:
                attempt.withdrawn()
            elif document["auth"].get("scope") not in (None, "unscoped"):
                # Keystone says the same of a wrong password and of a wrong project.
                identity = document["auth"]["identity"]
                again = {"auth": {"identity": identity, "scope": "unscoped"}}
                if (await self._keystone.ask("POST", path, document=again)).status == 201:
                    attempt.succeeded()
        return answer

    async def ask(self, method: str, path: str, token: str, subject: str = "") -> Answer:
        """Hand a user's question on to Keystone. Raises UNAUTHENTICATED without a token, and
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
            # Something was revoked meanwhile: what was read may be what is void now.
        known = Known(None, 0.0) if issue is None else await self._known(issue)
        self._cache.put(digest, asked_at, known)
        return known

    async def _ask(self, token: str) -> Issue | None:
        answer = await self._keystone.as_service("GET", "/auth/tokens?nocatalog", subject=token)
        if answer.status == 200:
            issue = answer.read(TokenReply).token
            # Such a token counts only with a certificate that is not seen here.
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
        given = self._user(user)
        if given is None:
            raise unauthenticated()
        identity = {
            "methods": ["password"],
            "password": {"user": {**given, "password": password}},
        }
        document = {"auth": {"identity": identity, "scope": "unscoped"}}
        answer = await self.sign_in(document, throttled(given), address)
        if answer.status != 201:
            raise refusal(answer)
        return self._issued(answer)

    async def _rescoped(self, token: str, project: str | None, domain: str | None) -> Issued:
        if not TOKEN.fullmatch(token):
            raise unauthenticated()
        identity = {"methods": ["token"], "token": {"id": token}}
        scopes = ["unscoped"] if project is None else self._scopes(project, domain)
        answer = None
        for scope in scopes:
            document = {"auth": {"identity": identity, "scope": scope}}
            answer = await self._keystone.ask("POST", "/auth/tokens?nocatalog", document=document)
            if answer.status == 201:
                return self._issued(answer)
        if answer is None or answer.status in (401, 404):
            # Keystone tells neither which of them it is.
            raise unauthenticated(
                ""
                if project is None
                else f"You do not belong to a project {project[:NAME_LENGTH]!r}, or signed out."
            )
        raise refusal(answer)

    def _user(self, reference: str) -> dict[str, Any] | None:
        """How Keystone calls a user; ``None``: nobody can be called so."""
        reference = normalized(reference)
        if not 0 < len(reference) <= 2 * NAME_LENGTH or not reference.isprintable():
            return None
        if ID.fullmatch(reference):
            return {"id": reference}
        name = reference.partition("\\")[2] if _domain(reference) else reference
        domain = _domain(reference) or self._default_domain
        return {"name": name, "domain": {"name": domain}}

    def _scopes(self, reference: str, domain: str | None) -> list[dict[str, Any]]:
        """What a project may be called, in the order in which it is tried."""
        reference = normalized(reference)
        if not 0 < len(reference) <= 2 * NAME_LENGTH or not reference.isprintable():
            return []
        if ID.fullmatch(reference):
            return [{"project": {"id": reference}}]
        named = _domain(reference)
        name = reference.partition("\\")[2] if named else reference
        where = {"name": named or domain or self._default_domain}
        return [{"project": {"name": name, "domain": where}}]

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


def refusal(answer: Answer) -> HeliometerError:
    """What Keystone refuses, in its words."""
    if receipt_of(answer):
        return unauthenticated("A password alone does not do for this user: sign in at Keystone.")
    code = CODES.get(answer.status)
    if code is None:
        return unavailable()
    message = fault_message(answer.body) or "Keystone refuses the request."
    return HeliometerError(code, message)


def receipt_of(answer: Answer) -> str:
    """What proves, where Keystone wants more than a password, that the password was right."""
    receipt: str = answer.headers.get("openstack-auth-receipt", "")
    return receipt if answer.status == 401 else ""


def throttled(user: Any) -> str:
    """Under which name the failures of a user are counted; ``user`` is Keystone's description."""
    if not isinstance(user, dict):
        return "?"
    if isinstance(user.get("id"), str):
        return str(user["id"])[:NAME_LENGTH]
    domain = user.get("domain")
    parts = domain if isinstance(domain, dict) else {}
    where = str(parts.get("name") or parts.get("id") or "").casefold()
    return f"{where}\\{str(user.get('name')).casefold()}"[: 2 * NAME_LENGTH]


def _domain(reference: str) -> str | None:
    """The domain in ``DOMAIN\\name``."""
    domain, backslash, name = reference.partition("\\")
    return domain if backslash and domain and name else None


def _digest(token: str) -> bytes | None:
    """The token's digest; ``None`` for what cannot be a token."""
    return _sha256(token) if TOKEN.fullmatch(token) else None


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
