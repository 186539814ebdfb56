"""Users, projects, memberships and tokens, and the rules for their names and passwords."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import NamedTuple

from heliometer.core.errors import Invalid
from heliometer.identity.model import ROLES

NAME_LENGTH = 64
PASSWORD_BYTES = 1024
ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Project:
    """Owns metrics and alarms (the documents' tenant)."""

    id: str
    name: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class User:
    """A person or program that can sign in."""

    id: str
    name: str
    password_hash: str = field(repr=False)
    enabled: bool = True
    is_operator: bool = False
    """Whether the user may operate the whole service, whatever its roles."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A project that a user belongs to, with the role there."""

    project: Project
    role: str


class Member(NamedTuple):
    """A user of a project, with the role there."""

    user: User
    role: str


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token, without its text. Times are milliseconds since the epoch."""

    digest: bytes
    """SHA-256 of the token; the token itself is not stored."""
    user_id: str
    project_id: str | None
    """``None`` for an unscoped token, which serves to get another one and for little else."""
    methods: tuple[str, ...]
    """How the user signed in, such as ``("password", "token")``."""
    issued_at: int
    expires_at: int
    audit_ids: tuple[str, ...]
    """The token's public id, followed by that of the first token of its chain if it differs."""


@dataclass(frozen=True, slots=True)
class TokenOwner:
    """A stored token with its user and the membership that it stands for now."""

    token: Token
    user: User
    membership: Membership | None
    """``None`` for an unscoped token."""


class Issued(NamedTuple):
    """A new token and its description. The token itself is not stored anywhere."""

    secret: str
    owner: TokenOwner


def is_id(reference: str) -> bool:
    """Whether a reference is an id; names cannot look like one."""
    return ID.fullmatch(reference) is not None


def normalized(name: str) -> str:
    """The name in Unicode's composed form, so that equal-looking names are equal."""
    return unicodedata.normalize("NFC", name)


def checked_name(name: str, what: str) -> str:
    """The name as it is stored. Raises INVALID unless it is legal."""
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
    """Raise INVALID for a password that is empty or too long."""
    size = len(password.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= PASSWORD_BYTES:
        raise Invalid(f"password: it must have 1 to {PASSWORD_BYTES} bytes, not {size}.")


def check_role(role: str) -> None:
    """Raise INVALID for a role that does not exist."""
    if role not in ROLES:
        raise Invalid(f"role: {role[:NAME_LENGTH]!r} is none; allowed: {', '.join(ROLES)}.")
