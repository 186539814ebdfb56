"""The built-in identity: users, projects and tokens in the resource database."""

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable

from heliometer.config import Settings
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.core.quotas import HOUR_S, Quota, Quotas
from heliometer.core.single_flight import SingleFlight
from heliometer.identity.accounts import (
    NAME_LENGTH,
    Issued,
    Membership,
    Token,
    TokenOwner,
    User,
    check_password,
    normalized,
)
from heliometer.identity.basic_auth_cache import BasicAuthCache, only_project
from heliometer.identity.builtin.directory import Directory
from heliometer.identity.builtin.passwords import Passwords
from heliometer.identity.cache import Known, TokenCache
from heliometer.identity.model import OPERATOR, ROLES, Caller, unauthenticated
from heliometer.identity.ports import AccountStore, TokenStore
from heliometer.identity.sign_in_limiter import SignInLimiter

log = logging.getLogger(__name__)

TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
"""The form of ``secrets.token_urlsafe(32)``; anything else is not our token."""
PURGE_ROWS = 5_000
"""Expired tokens that one transaction removes, so that others do not wait long."""
LOOKUP_S = 10.0
AWAY_S = 2.0
"""For so long a store that did not answer is not asked again about tokens that are known."""


class BuiltinIdentity(Directory):
    """A directory that signs its users in; implements ``identity.ports.Identity``.

    ``clock`` is the wall clock and ``monotonic`` a monotonic one, both in seconds. Users and
    projects are referred to by id or name. Every method raises UNAVAILABLE when the store fails.
    """

    def __init__(
        self,
        accounts: AccountStore,
        tokens: TokenStore,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        quotas: Quotas | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        passwords: Passwords | None = None,
    ) -> None:
        super().__init__(accounts, passwords or Passwords(), clock)
        self._tokens = tokens
        self._lifetime_ms = settings.identity.token_lifetime * 1000
        self._sign_in_limiter = SignInLimiter(settings.limits.sign_in_failures, monotonic, quotas)
        self._quotas = quotas
        self._rescopes = Quota(
            "rescope",
            settings.limits.rescopes_per_hour,
            HOUR_S,
            f"The user has exchanged {settings.limits.rescopes_per_hour} tokens within the last "
            "hour.",
        )
        self._cache = TokenCache(monotonic)
        self._lookups: SingleFlight[bytes, Known] = SingleFlight()
        self._away_until = float("-inf")
        self._basic_auth = BasicAuthCache(monotonic)

    def close(self) -> None:
        """End the threads that hash passwords."""
        self._passwords.close()

    async def authenticate(self, token: str) -> Caller:
        """Return the caller; raise UNAUTHENTICATED or UNAVAILABLE. The answer may be 30 s old, or
        55 s while the store does not answer."""
        digest = _digest(token)
        if digest is None:
            raise unauthenticated()
        known = self._cache.get(digest) or await self._look_up(digest)
        if known.caller is None or self._clock() >= known.expires_at:
            raise unauthenticated()
        return known.caller

    async def _look_up(self, digest: bytes) -> Known:
        if self._cache.now() < self._away_until and (stale := self._cache.stale(digest)):
            return stale  # not each request waits for a store that is known not to answer
        try:
            return await self._lookups.of(digest, lambda: self._read(digest))
        except HeliometerError as error:
            stale = self._cache.stale(digest)
            if error.code is not Code.UNAVAILABLE or stale is None:
                raise
            self._away_until = self._cache.now() + AWAY_S
            return stale

    async def validate(self, token: str) -> TokenOwner:
        """What a token stands for, fresh from the store; raise UNAUTHENTICATED if nothing."""
        digest = _digest(token)
        owner = None if digest is None else await self._tokens.find(digest)
        if owner is None or self._now_ms() >= owner.token.expires_at:
            raise unauthenticated()
        return owner

    async def authenticate_password(
        self, user: str, password: str, address: str | None, project: str | None = None
    ) -> Issued:
        """Sign in; without a project the token is unscoped.

        Raises UNAUTHENTICATED for a wrong name or password, or a project that the user does not
        belong to, RATE_LIMITED after too many failures, and INVALID for impossible passwords.
        """
        found = await self._verified(user, password, address)
        membership = await self._membership(found, project)
        return await self._issue(found, membership, ("password",), password_hash=True)

    async def _verified(self, user: str, password: str, address: str | None) -> User:
        check_password(password)
        found = await self._accounts.find_user(normalized(user))
        # By id, so that guessing by name and by id draw on one budget.
        subject = found.id if found else f"?{user[:NAME_LENGTH]}"
        async with self._sign_in_limiter.admitted(subject, address or "") as attempt:
            right = await self._passwords.verify(found.password_hash if found else None, password)
            if found is None or not right or not found.enabled:
                log.warning("sign-in failed: user %a from %s", user[:NAME_LENGTH], address)
                raise unauthenticated()
            attempt.succeeded()
        return found

    async def authenticate_basic(
        self, user: str, password: str, address: str | None, project: str | None
    ) -> Caller:
        """Return the caller of a request that comes with a password, in its only project unless
        one is named.

        The password is verified once, for a token like any other, which changes of passwords, users
        and roles revoke. Raises as ``authenticate_password``.
        """

        async def issue(found: User) -> str:
            if project is None:
                known = await self._accounts.list_memberships(found.id)
                membership: Membership | None = only_project(found.name, known)
            else:
                membership = await self._membership(found, project)
            return (await self._issue(found, membership, ("password",), password_hash=True)).secret

        return await self._basic_auth.caller(
            (user, password, project or ""),
            self.authenticate,
            lambda: self._verified(user, password, address),
            issue,
        )

    async def authenticate_token(self, token: str, project: str | None = None) -> Issued:
        """Exchange a token for one of another scope, which ends no later than the first.

        Raises UNAUTHENTICATED as ``authenticate_password`` does, and RATE_LIMITED when the user
        has made too many.
        """
        owner = await self.validate(token)
        membership = await self._membership(owner.user, project)
        if self._quotas is not None:
            await self._quotas.take(self._rescopes.of(owner.user.id))
        methods = tuple(dict.fromkeys((*owner.token.methods, "token")))
        return await self._issue(owner.user, membership, methods, parent=owner.token)

    async def memberships(self, token: str) -> list[Membership]:
        """The enabled projects of the token's user, by name; raise UNAUTHENTICATED."""
        return await self.list_memberships((await self.authenticate(token)).user_id)

    async def change_password(
        self, user: str, original: str, password: str, address: str | None
    ) -> None:
        """Change one's own password, which ends all of one's sessions and tokens.

        Raises UNAUTHENTICATED for a wrong name or original password, RATE_LIMITED as a sign-in
        does, and INVALID for a new password that breaks a rule.
        """
        found = await self._verified(user, original, address)
        if password == original:
            raise Invalid(
                "password: it is the one you have now.", details="Choose another password."
            )
        await self.set_password(found.id, password, by=found.name)

    async def revoke(self, token: str) -> None:
        """End a token: at once in this process, within 60 s in others."""
        digest = _digest(token)
        if digest is not None:
            try:
                await self._tokens.remove(digest)
            finally:
                self._cache.revoke(digest)  # even if the caller is gone

    async def revoke_all(self, user_id: str) -> None:
        """End all tokens of a user: at once in this process, within 60 s in others."""
        try:
            await self._tokens.remove_all(user_id)
        finally:
            self._cache.revoke()

    async def purge_expired(self) -> int:
        """Remove expired tokens from the store; return how many."""
        total = 0
        while gone := await self._tokens.remove_expired(self._now_ms(), PURGE_ROWS):
            total += gone
        return total

    def _revoked(self) -> None:
        self._cache.revoke()

    async def _read(self, digest: bytes) -> Known:
        while True:
            generation, asked_at = self._cache.generation, self._cache.now()
            try:
                async with asyncio.timeout(LOOKUP_S):
                    owner = await self._tokens.find(digest)
            except TimeoutError as error:
                raise HeliometerError(
                    Code.UNAVAILABLE, "Tokens cannot be checked now.", retry_after=5
                ) from error
            if generation == self._cache.generation:
                break
            # Something was revoked meanwhile, possibly this token.
        known = Known(None, 0.0) if owner is None else _known(owner)
        self._cache.put(digest, asked_at, known)
        return known

    async def _issue(
        self,
        user: User,
        membership: Membership | None,
        methods: tuple[str, ...],
        *,
        password_hash: bool = False,
        parent: Token | None = None,
    ) -> Issued:
        secret = _new_secret()
        now = self._now_ms()
        token = Token(
            digest=_sha256(secret),
            user_id=user.id,
            project_id=membership.project.id if membership else None,
            methods=methods,
            issued_at=now,
            expires_at=parent.expires_at if parent else now + self._lifetime_ms,
            audit_ids=(secrets.token_urlsafe(16), *(parent.audit_ids[-1:] if parent else ())),
        )
        added = await self._tokens.add(
            token,
            password_hash=user.password_hash if password_hash else None,
            parent=parent.digest if parent else None,
        )
        if not added:
            raise unauthenticated()
        return Issued(secret, TokenOwner(token, user, membership))

    async def _membership(self, user: User, project: str | None) -> Membership | None:
        if project is None:
            return None
        project = normalized(project)
        for membership in await self._accounts.list_memberships(user.id):
            if project in (membership.project.id, membership.project.name):
                return membership
        raise unauthenticated(
            f"User {user.name} does not belong to a project {project[:NAME_LENGTH]!r}."
        )


def _known(owner: TokenOwner) -> Known:
    membership = owner.membership
    allowed = ROLES.get(membership.role, frozenset()) if membership else frozenset()
    caller = Caller(
        user_id=owner.user.id,
        user_name=owner.user.name,
        project_id=membership.project.id if membership else "",
        project_name=membership.project.name if membership else "",
        permissions=allowed | OPERATOR if owner.user.is_operator else allowed,
    )
    return Known(caller, owner.token.expires_at / 1000)


def _digest(token: str) -> bytes | None:
    """The token's digest; ``None`` for what cannot be a token."""
    return _sha256(token) if TOKEN.fullmatch(token) else None


def _new_secret() -> str:
    """A token that does not start like an option, so that it can be given on a command line."""
    while (secret := secrets.token_urlsafe(32)).startswith("-"):
        pass
    return secret


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
