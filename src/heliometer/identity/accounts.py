"""Users, projects and tokens as the built-in identity keeps them, and the ports to their store."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Protocol

from heliometer.core.errors import Invalid
from heliometer.identity.model import ROLES

NAME_LENGTH = 64
PASSWORD_BYTES = 1024
ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Project:
    """Whose metrics and alarms they are (the documents' tenant)."""

    id: str
    name: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class User:
    """Who can sign in."""

    id: str
    name: str
    password_hash: str = field(repr=False)
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Membership:
    """A project that a user belongs to, and as what."""

    project: Project
    role: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored: its digest instead of itself. Times are milliseconds since 1970."""

    digest: bytes
    """SHA-256 of the token."""
    user_id: str
    project_id: str | None
    """``None``: unscoped; good for asking for another token and little else."""
    methods: tuple[str, ...]
    """How the user signed in, such as ``("password", "token")``."""
    issued_at: int
    expires_at: int
    audit_ids: tuple[str, ...]
    """The token's own public name, then that of the first token of its chain, if another."""


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """A stored token with the user and the membership that it stands for now."""

    token: Token
    user: User
    membership: Membership | None
    """``None`` for an unscoped token."""


class AccountStore(Protocol):
    """Keeps projects, users and memberships. References are ids or names; ``at`` is in ms.

    Every method raises UNAVAILABLE when the store cannot answer. What changes something also
    records who did so, in the same transaction.
    """

    async def add_first(self, project: Project, user: User, role: str, at: int) -> bool:
        """Add both and the membership if there is neither a project nor a user yet."""
        ...

    async def add_project(self, project: Project, at: int, by: str) -> None:
        """Add a project; raise CONFLICT when the name is taken."""
        ...

    async def find_project(self, reference: str) -> Project | None:
        """The project with this id or name."""
        ...

    async def list_projects(self) -> list[Project]:
        """Every project, by name."""
        ...

    async def add_user(self, user: User, project: Project, role: str, at: int, by: str) -> None:
        """Add a user as a member of a project; raise CONFLICT when the name is taken."""
        ...

    async def find_user(self, reference: str) -> User | None:
        """The user with this id or name."""
        ...

    async def list_users(self) -> list[User]:
        """Every user, by name."""
        ...

    async def set_role(self, user: User, project: Project, role: str, at: int, by: str) -> None:
        """Make the user a member of the project, or change as what."""
        ...

    async def list_memberships(self, user_id: str) -> list[Membership]:
        """The enabled projects that the user belongs to, by name."""
        ...

    async def set_password_hash(self, user: User, password_hash: str, at: int, by: str) -> None:
        """Change the password and revoke the user's tokens."""
        ...

    async def set_user_enabled(self, user: User, enabled: bool, at: int, by: str) -> None:
        """Enable or disable a user; disabling revokes the user's tokens."""
        ...


class ProjectMirror(Protocol):
    """Keeps projects that live elsewhere, so that alarms and the like can refer to them.

    Every method raises UNAVAILABLE when the store cannot answer.
    """

    async def named(self, name: str) -> Project | None:
        """The project that was last known by this name."""
        ...

    async def keep(self, project: Project) -> None:
        """Add the project unless it is disabled, or change what is known of it.

        Another one of that name had it before: it gets a name made of its id.
        """
        ...

    async def disable(self, project_id: str) -> None:
        """The project is gone where it lives; what it has here stays."""
        ...


class TokenStore(Protocol):
    """Keeps tokens. Every method raises UNAVAILABLE when the store cannot answer."""

    async def add(self, token: Token, *, password_hash: str | None, parent: bytes | None) -> bool:
        """Store a token unless what it was earned with is void by now.

        That is the user's password (its hash) or another token (its digest). Asked in the same
        transaction, so that a revocation cannot slip in between.
        """
        ...

    async def find(self, digest: bytes) -> TokenOwner | None:
        """The token, if its user, project and membership still allow it. Expiry is not judged."""
        ...

    async def remove(self, digest: bytes) -> None:
        """Forget a token. It is no error if there is none."""
        ...

    async def remove_all(self, user_id: str) -> None:
        """Forget all tokens of a user."""
        ...

    async def remove_expired(self, before: int, limit: int) -> int:
        """Forget up to ``limit`` tokens that expired at or before then; say how many."""
        ...


def is_id(reference: str) -> bool:
    """Whether a reference is an id; names cannot look like one."""
    return ID.fullmatch(reference) is not None


def normalized(name: str) -> str:
    """The name in Unicode's composed form: what looks the same is the same."""
    return unicodedata.normalize("NFC", name)


def checked_name(name: str, what: str) -> str:
    """The name as it is kept; raise INVALID unless it is legal."""
    name = normalized(name)
    if not 1 <= len(name) <= NAME_LENGTH:
        raise Invalid(f"{what}: a name must have 1 to {NAME_LENGTH} characters, not {len(name)}.")
    if not name.isprintable():
        raise Invalid(f"{what}: a name may only have printable characters, unlike {name!a}.")
    if name != name.strip():
        raise Invalid(f"{what}: a name may not begin or end with a space, unlike {name!r}.")
    if is_id(name):
        raise Invalid(f"{what}: {name} looks like an id; a name must not be 32 hex digits.")
    return name


def check_password(password: str) -> None:
    """Raise INVALID for a password that cannot be one."""
    size = len(password.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= PASSWORD_BYTES:
        raise Invalid(f"password: it must have 1 to {PASSWORD_BYTES} bytes, not {size}.")


def check_role(role: str) -> None:
    """Raise INVALID for a role that does not exist."""
    if role not in ROLES:
        raise Invalid(f"role: {role[:NAME_LENGTH]!r} is none; allowed: {', '.join(ROLES)}.")
