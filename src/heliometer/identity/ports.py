"""The ports of identity: to its stores, and from the rest of the service to it."""

from collections.abc import Mapping
from typing import Protocol

from heliometer.identity.accounts import (
    Issued,
    Member,
    Membership,
    Project,
    Token,
    TokenOwner,
    User,
)
from heliometer.identity.model import Caller


class Authenticator(Protocol):
    """Finds the caller behind a token or a password."""

    async def authenticate(self, token: str) -> Caller:
        """Return the caller; raise UNAUTHENTICATED for a token that is unknown, expired or
        revoked, and UNAVAILABLE when that cannot be checked."""
        ...

    async def authenticate_basic(
        self, user: str, password: str, address: str | None, project: str | None
    ) -> Caller:
        """The same for a sender that gives its password with each request. Without a project, the
        user must belong to exactly one. Raises RATE_LIMITED after many wrong passwords."""
        ...


class Identity(Authenticator, Protocol):
    """Signs users in and out. Users and projects are referred to by id or name.

    Every method raises UNAVAILABLE when the needed answer cannot be had.
    """

    async def validate(self, token: str) -> TokenOwner:
        """The token's description, freshly looked up. Raises UNAUTHENTICATED."""
        ...

    async def authenticate_password(
        self, user: str, password: str, address: str | None, project: str | None = None
    ) -> Issued:
        """Sign in; without a project the token is unscoped.

        Raises UNAUTHENTICATED for a wrong name or password, or a project that the user does not
        belong to, RATE_LIMITED after too many failures, and INVALID for impossible passwords.
        """
        ...

    async def authenticate_token(self, token: str, project: str | None = None) -> Issued:
        """Exchange a token for one of another scope, which ends no later than the first.

        Raises UNAUTHENTICATED as ``authenticate_password`` does.
        """
        ...

    async def memberships(self, token: str) -> list[Membership]:
        """The enabled projects of the token's user, by name, as of up to 30 s ago. Raises
        UNAUTHENTICATED."""
        ...

    async def revoke(self, token: str) -> None:
        """End a token: at once in this process, within 60 s in others."""
        ...


class ProjectDirectory(Protocol):
    """Stores projects. A reference is an id or a name; ``at`` is in milliseconds.

    Like its siblings below, every method raises UNAVAILABLE when the store does not answer, and
    every change is recorded together with who made it, in one transaction.
    """

    async def add_project(self, project: Project, at: int, by: str) -> None:
        """Add a project; raise CONFLICT when the name is taken."""
        ...

    async def find_project(self, reference: str) -> Project | None:
        """The project with this id or name."""
        ...

    async def list_projects(self) -> list[Project]:
        """Every project, by name."""
        ...

    async def set_project_enabled(self, project: Project, enabled: bool, at: int, by: str) -> None:
        """Enable or disable a project; disabling revokes its tokens, and withholds what waits to
        be sent. Its data stays."""
        ...

    async def remove_project(self, project: Project, at: int, by: str) -> None:
        """Remove a project with everything that belongs to it, but for measurements."""
        ...

    async def project_holdings(self, project_id: str) -> Mapping[str, int]:
        """How much of each kind belongs to the project and would be removed with it."""
        ...


class UserDirectory(Protocol):
    """Stores users and their memberships of projects."""

    async def add_user(
        self, user: User, project: Project | None, role: str, at: int, by: str
    ) -> None:
        """Add a user, as a member of a project if there is one; raise CONFLICT when the name is
        taken."""
        ...

    async def find_user(self, reference: str) -> User | None:
        """The user with this id or name."""
        ...

    async def list_users(self) -> list[User]:
        """All users, sorted by name."""
        ...

    async def set_password_hash(self, user: User, password_hash: str, at: int, by: str) -> None:
        """Change the password and revoke the user's tokens."""
        ...

    async def set_user_enabled(self, user: User, enabled: bool, at: int, by: str) -> None:
        """Enable or disable a user; disabling revokes the user's tokens."""
        ...

    async def set_operator(self, user: User, is_operator: bool, at: int, by: str) -> None:
        """Let a user operate the whole service, or no longer."""
        ...

    async def user_holdings(self, user_id: str) -> Mapping[str, int]:
        """How much of each kind would be removed with the user."""
        ...

    async def remove_user(self, user: User, at: int, by: str) -> None:
        """Remove a user with its memberships and tokens."""
        ...


class MembershipDirectory(Protocol):
    """Stores which user has which role in which project."""

    async def add_first(self, project: Project, user: User, role: str, at: int) -> bool:
        """Add project, user and membership, unless there is any project or user already."""
        ...

    async def set_role(self, user: User, project: Project, role: str, at: int, by: str) -> None:
        """Make the user a member of the project, or change its role there."""
        ...

    async def remove_role(self, user: User, project: Project, at: int, by: str) -> bool:
        """End a membership and revoke the user's tokens for the project; whether there was one."""
        ...

    async def list_memberships(self, user_id: str) -> list[Membership]:
        """The enabled projects that the user belongs to, by name."""
        ...

    async def list_members(self, project_id: str) -> list[Member]:
        """The users of a project, by name."""
        ...


class AccountStore(ProjectDirectory, UserDirectory, MembershipDirectory, Protocol):
    """Users, projects and memberships together, as the built-in identity stores them."""


class ProjectMirror(Protocol):
    """Copies of projects that Keystone owns, for alarms and the like to refer to.

    Every method raises UNAVAILABLE when the store does not answer.
    """

    async def named(self, name: str) -> Project | None:
        """The project that last had this name."""
        ...

    async def keep(self, project: Project) -> None:
        """Update the project, or add it unless it is disabled.

        Another project that still has the name here gets a name made of its id.
        """
        ...

    async def disable(self, project_id: str) -> None:
        """Disable a project that Keystone no longer has; its data stays."""
        ...


class TokenStore(Protocol):
    """Stores tokens. Every method raises UNAVAILABLE when the store does not answer."""

    async def add(self, token: Token, *, password_hash: str | None, parent: bytes | None) -> bool:
        """Store a token, unless the credential it was issued for has been revoked.

        That is the user's password (its hash) or another token (its digest), checked in the same
        transaction.
        """
        ...

    async def find(self, digest: bytes) -> TokenOwner | None:
        """The token if its user, project and membership still allow it, expired or not."""
        ...

    async def remove(self, digest: bytes) -> None:
        """Remove a token if it exists."""
        ...

    async def remove_all(self, user_id: str) -> None:
        """Remove all tokens of a user."""
        ...

    async def remove_expired(self, before: int, limit: int) -> int:
        """Remove up to ``limit`` tokens that expired by then; return how many."""
        ...
