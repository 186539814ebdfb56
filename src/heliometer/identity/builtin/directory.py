"""The users and projects of the built-in identity, and their management."""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.identity.accounts import (
    NAME_LENGTH,
    Member,
    Membership,
    Project,
    User,
    check_password,
    check_role,
    checked_name,
    normalized,
)
from heliometer.identity.builtin.password_rules import check_new_password
from heliometer.identity.builtin.passwords import Passwords
from heliometer.identity.ports import AccountStore

log = logging.getLogger(__name__)

CHANGE_IT = "Change it with: heliometer user password demo"
DEMO = "demo"
"""Name of the user and project that the first start makes."""


class Directory:
    """Manages users and projects, which are referred to by id or name.

    ``by`` names who makes the change, for the audit trail. Every method raises UNAVAILABLE when
    the store fails.
    """

    def __init__(
        self, accounts: AccountStore, passwords: Passwords, clock: Callable[[], float]
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._clock = clock

    async def bootstrap(self, password: str | None = None) -> str | None:
        """Create project and user ``demo`` if there is no user yet, and return the password. The
        user is the first operator.

        Without ``password`` a random one is made; a weak one is accepted with a warning. Returns
        ``None`` if there was a user already.
        """
        if await self._accounts.list_users() or await self._accounts.list_projects():
            return None
        password = password or secrets.token_urlsafe(12)
        try:
            check_new_password(password, DEMO)
        except Invalid as error:
            check_password(password)  # what could not even be used to sign in is refused
            log.warning("the first start's password is weak: %s %s", error.message, CHANGE_IT)
        project = Project(_new_id(), DEMO)
        user = replace(await self._new_user(DEMO, password), is_operator=True)
        first = await self._accounts.add_first(project, user, "admin", self._now_ms())
        return password if first else None

    async def create_project(self, name: str, *, by: str = "operator") -> str:
        """Add a project and return its id; raise INVALID or CONFLICT for its name."""
        project = Project(_new_id(), checked_name(name, "project"))
        await self._accounts.add_project(project, self._now_ms(), by)
        return project.id

    async def list_projects(self) -> list[Project]:
        """Every project, by name."""
        return await self._accounts.list_projects()

    async def project_id(self, reference: str) -> str | None:
        """The id of the project with this id or name, if there is one."""
        found = await self._accounts.find_project(normalized(reference))
        return found.id if found else None

    async def enable_project(self, project: str, *, by: str = "operator") -> None:
        """Let the users of a project in again. Raises NOT_FOUND."""
        found = await self._project(project)
        await self._accounts.set_project_enabled(found, True, self._now_ms(), by)

    async def disable_project(self, project: str, *, by: str = "operator") -> None:
        """Keep everybody out of a project and revoke its tokens; its data stays. Raises
        NOT_FOUND."""
        found = await self._project(project)
        await self._accounts.set_project_enabled(found, False, self._now_ms(), by)
        self._revoked()

    async def project_holdings(self, project: str) -> Mapping[str, int]:
        """How much of each kind would be deleted with the project. Raises NOT_FOUND."""
        return await self._accounts.project_holdings((await self._project(project)).id)

    async def delete_project(self, project: str, *, by: str = "operator") -> None:
        """Delete a project with everything that belongs to it. Its measurements can no longer be
        reached, and are removed as all are, by their age. Raises NOT_FOUND."""
        await self._accounts.remove_project(await self._project(project), self._now_ms(), by)
        self._revoked()

    async def list_members(self, project: str) -> list[Member]:
        """The users of a project, by name. Raises NOT_FOUND."""
        return await self._accounts.list_members((await self._project(project)).id)

    async def list_memberships(self, user: str) -> list[Membership]:
        """The enabled projects that a user belongs to, by name."""
        return await self._accounts.list_memberships((await self._user(user)).id)

    async def create_user(
        self,
        name: str,
        password: str,
        project: str | None,
        role: str = "member",
        *,
        by: str = "operator",
    ) -> str:
        """Add a user, to a project if one is named, and return the user's id.

        Raises INVALID for the name, password or role, CONFLICT for the name, NOT_FOUND for the
        project.
        """
        check_role(role)
        member_of = None if project is None else await self._project(project)
        user = await self.new_user(name, password)
        await self._accounts.add_user(user, member_of, role, self._now_ms(), by)
        return user.id

    async def new_user(self, name: str, password: str) -> User:
        """A user that is not stored yet. Raises INVALID for the name or the password."""
        name = checked_name(name, "user")
        check_new_password(password, name)
        return await self._new_user(name, password)

    async def find_user(self, reference: str) -> User | None:
        """The user with this id or name, if there is one."""
        return await self._accounts.find_user(normalized(reference))

    async def list_users(self) -> list[User]:
        """All users, sorted by name."""
        return await self._accounts.list_users()

    async def grant(self, user: str, project: str, role: str, *, by: str = "operator") -> None:
        """Make a user a member of a project, or change its role there.

        Raises INVALID for the role and NOT_FOUND for the others.
        """
        check_role(role)
        member, member_of = await self._user(user), await self._project(project)
        await self._accounts.set_role(member, member_of, role, self._now_ms(), by)
        self._revoked()

    async def revoke_role(self, user: str, project: str, *, by: str = "operator") -> None:
        """End a user's membership of a project and its tokens there. Raises NOT_FOUND."""
        member, member_of = await self._user(user), await self._project(project)
        if not await self._accounts.remove_role(member, member_of, self._now_ms(), by):
            raise HeliometerError(
                Code.NOT_FOUND, f"User {member.name} has no role in project {member_of.name}."
            )
        self._revoked()

    async def set_operator(self, user: str, is_operator: bool, *, by: str = "operator") -> None:
        """Let a user operate the whole service, or no longer. Raises NOT_FOUND."""
        found = await self._user(user)
        await self._accounts.set_operator(found, is_operator, self._now_ms(), by)
        self._revoked()

    async def set_password(self, user: str, password: str, *, by: str = "operator") -> None:
        """Change a password and revoke the user's tokens. Raises INVALID, NOT_FOUND."""
        found = await self._user(user)
        check_new_password(password, found.name)
        password_hash = await self._passwords.hash(password)
        await self._accounts.set_password_hash(found, password_hash, self._now_ms(), by)
        self._revoked()

    async def enable_user(self, user: str, *, by: str = "operator") -> None:
        """Let a user sign in again. Raises NOT_FOUND."""
        found = await self._user(user)
        await self._accounts.set_user_enabled(found, True, self._now_ms(), by)

    async def disable_user(self, user: str, *, by: str = "operator") -> None:
        """Keep a user out and revoke its tokens. Raises NOT_FOUND."""
        found = await self._user(user)
        await self._accounts.set_user_enabled(found, False, self._now_ms(), by)
        self._revoked()

    async def user_holdings(self, user: str) -> Mapping[str, int]:
        """How much of each kind would be deleted with the user. Raises NOT_FOUND."""
        return await self._accounts.user_holdings((await self._user(user)).id)

    async def delete_user(self, user: str, *, by: str = "operator") -> None:
        """Delete a user with its memberships and tokens; what it made in projects stays. Raises
        NOT_FOUND."""
        await self._accounts.remove_user(await self._user(user), self._now_ms(), by)
        self._revoked()

    def _revoked(self) -> None:
        """Called when tokens may have become void."""

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def _new_user(self, name: str, password: str) -> User:
        return User(_new_id(), name, await self._passwords.hash(password))

    async def _user(self, reference: str) -> User:
        found = await self._accounts.find_user(normalized(reference))
        if found is None:
            raise _missing("user", reference)
        return found

    async def _project(self, reference: str) -> Project:
        found = await self._accounts.find_project(normalized(reference))
        if found is None:
            raise _missing("project", reference)
        return found


def _missing(what: str, reference: str) -> HeliometerError:
    return HeliometerError(
        Code.NOT_FOUND, f"There is no {what} with the name or id {reference[:NAME_LENGTH]!r}."
    )


def _new_id() -> str:
    return secrets.token_hex(16)
