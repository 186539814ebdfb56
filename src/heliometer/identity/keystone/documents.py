"""What Keystone v3 says, as far as it matters here (Keystone v3, "Authentication and tokens")."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from heliometer.identity.accounts import NAME_LENGTH, Project, is_id, normalized
from heliometer.identity.model import ROLES, Permission

STRONGEST = ("admin", "agent", "member", "reader")
"""Our roles, those first that others are shown to have where a user has several."""
PROJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""What can be kept as a project's id: Keystone makes 32 hex digits; its first domain, which may
act as a project, is ``default``."""
SHORT_ID = 10

T = TypeVar("T", bound=Struct)


class Unintelligible(Exception):
    """A reply is not what Keystone would say."""


class Named(Struct, frozen=True):
    """A thing with an id; the domain of another, or a role."""

    id: str
    name: str = ""


class Of(Struct, frozen=True):
    """A user or project, and the domain that its name is unique in."""

    id: str
    name: str
    domain: Named


class Issue(Struct, frozen=True):
    """A token, apart from the token itself."""

    user: Of
    expires_at: datetime
    issued_at: datetime
    methods: tuple[str, ...] = ()
    audit_ids: tuple[str, ...] = ()
    project: Of | None = None
    roles: tuple[Named, ...] = ()
    oauth2_credential: Any = None
    """Present when the token counts only together with a client's certificate."""


class TokenReply(Struct):
    token: Issue


class ProjectEntry(Struct, frozen=True):
    """A project in a list of projects."""

    id: str
    name: str
    enabled: bool = True
    domain_id: str | None = None


class ProjectReply(Struct):
    project: ProjectEntry


class ProjectsReply(Struct):
    projects: list[ProjectEntry]


class DomainReply(Struct):
    domain: Named


class RolesReply(Struct):
    roles: list[Named]


class _Fault(Struct):
    message: str = ""


class _FaultReply(Struct):
    error: _Fault


def decode(body: bytes, type_: type[T]) -> T:
    """The reply as a value of ``type_``; raise Unintelligible."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unintelligible(str(error)) from error


def fault_message(body: bytes) -> str | None:
    """The message of a refusal, in printable characters; ``None`` if it is not Keystone's."""
    try:
        message = msgspec.json.decode(body, type=_FaultReply).error.message
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return "".join(c if c.isprintable() else " " for c in message)[:300].strip()


class Rights(NamedTuple):
    """A role and its permissions."""

    role: str
    """The strongest of our roles, for display; empty if there is none."""
    permissions: frozenset[Permission]


class Roles:
    """Maps Keystone's roles to ours, ignoring case, as Keystone's own services do."""

    def __init__(self, pairs: Mapping[str, str]) -> None:
        self._ours = {theirs.casefold(): ours for theirs, ours in pairs.items()}

    def of(self, roles: Iterable[Named]) -> Rights:
        """What these roles of Keystone allow together."""
        ours = {self._ours.get(role.name.casefold()) for role in roles}
        held = [role for role in STRONGEST if role in ours]
        permissions = frozenset[Permission]().union(*(ROLES[role] for role in held))
        return Rights(held[0] if held else "", permissions)


def local_project(id_: str, name: str, domain: Named, default_domain: str) -> Project:
    """The project as it is stored here, where names are unique across domains and have at most 64
    characters.

    A project of the default domain keeps its name; others are called ``name@domain``. No two
    projects of one Keystone get the same name: another project here with that name had it before.
    """
    name = "".join(c if c.isprintable() else "?" for c in normalized(name)).strip()
    default = domain.name.casefold() == default_domain.casefold()
    # A name that looks like an id must not be taken for one.
    if not default or not name or "@" in name or is_id(name):
        readable = domain.name and domain.name.isprintable() and "@" not in domain.name
        name += f"@{domain.name if readable and not is_id(domain.name) else domain.id}"
    if len(name) > NAME_LENGTH:
        name = f"{name[: NAME_LENGTH - SHORT_ID - 1]}~{id_[:SHORT_ID]}"
    return Project(id_, name)
