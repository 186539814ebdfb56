"""Who may manage which users, projects and roles, and do so.

Operators manage all of them; administrators of a project manage its members; everybody sees
themselves and their own project. What a caller may not see is NOT_FOUND, exactly as if it did not
exist; FORBIDDEN is only said about what the caller can see.
"""

from collections.abc import Mapping, Sequence

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import Member, Membership, Project, User, check_role, is_id
from heliometer.identity.builtin.directory import Directory
from heliometer.identity.model import SERVICE_WIDE, Caller, Permission

ADMINISTER, OPERATE = Permission.ADMINISTER, Permission.OPERATE


class Administration:
    """The directory as a caller may use it. Users and projects are referred to by id only."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    # -- projects -----------------------------------------------------------------------------

    async def projects(self, caller: Caller) -> Sequence[Project]:
        """All projects for an operator, and one's own for others."""
        if OPERATE in caller.permissions:
            return await self._directory.list_projects()
        return [m.project for m in await self._directory.list_memberships(caller.user_id)]

    async def project(self, caller: Caller, project_id: str) -> Project:
        """A project that the caller can see. Raises NOT_FOUND."""
        if is_id(project_id):
            for project in await self.projects(caller):
                if project.id == project_id:
                    return project
        raise _missing("project", project_id)

    async def create_project(self, caller: Caller, name: str, *, enabled: bool = True) -> Project:
        """Raises FORBIDDEN, INVALID or CONFLICT."""
        caller.require(OPERATE)
        project_id = await self._directory.create_project(name, by=caller.user_name)
        if not enabled:
            await self._directory.disable_project(project_id, by=caller.user_name)
        return await self.project(caller, project_id)

    async def set_project_enabled(self, caller: Caller, project_id: str, enabled: bool) -> Project:
        """Enable or disable a project. Raises NOT_FOUND and FORBIDDEN."""
        project = await self.project(caller, project_id)
        caller.require(OPERATE)
        if enabled != project.enabled:
            change = self._directory.enable_project if enabled else self._directory.disable_project
            await change(project_id, by=caller.user_name)
        return await self.project(caller, project_id)

    async def project_holdings(self, caller: Caller, project_id: str) -> Mapping[str, int]:
        """What would be deleted with a project. Raises NOT_FOUND and FORBIDDEN."""
        await self.project(caller, project_id)
        caller.require(OPERATE)
        return await self._directory.project_holdings(project_id)

    async def delete_project(self, caller: Caller, project_id: str) -> None:
        """Delete a project and what belongs to it. Raises NOT_FOUND and FORBIDDEN, and CONFLICT
        for the project that the caller is working in."""
        await self.project(caller, project_id)
        caller.require(OPERATE)
        if project_id == caller.project_id:
            raise HeliometerError(
                Code.CONFLICT,
                "You are working in this project.",
                details="Delete it from another one, or by heliometer project delete.",
            )
        await self._directory.delete_project(project_id, by=caller.user_name)

    # -- users --------------------------------------------------------------------------------

    async def users(self, caller: Caller) -> Sequence[User]:
        """All users for an operator, and the members of the project for its administrator. Raises
        FORBIDDEN for others."""
        if OPERATE in caller.permissions:
            return await self._directory.list_users()
        caller.require(ADMINISTER)
        return [m.user for m in await self._directory.list_members(caller.project_id)]

    async def user(self, caller: Caller, user_id: str) -> User:
        """A user that the caller can see. Raises NOT_FOUND."""
        if is_id(user_id):
            found = await self._directory.find_user(user_id)
            if found is not None and (
                user_id == caller.user_id
                or OPERATE in caller.permissions
                or await self._is_mine(caller, user_id)
            ):
                return found
        raise _missing("user", user_id)

    async def memberships(self, caller: Caller, user_id: str) -> Sequence[Membership]:
        """The projects of a user; administrators see only their own project. Raises NOT_FOUND."""
        await self.user(caller, user_id)
        found = await self._directory.list_memberships(user_id)
        if OPERATE in caller.permissions or user_id == caller.user_id:
            return found
        return [m for m in found if m.project.id == caller.project_id]

    async def create_user(
        self, caller: Caller, name: str, password: str, *, enabled: bool = True
    ) -> User:
        """Add a user that belongs to no project yet. Raises FORBIDDEN, INVALID or CONFLICT."""
        caller.require(OPERATE)
        user_id = await self._directory.create_user(name, password, None, by=caller.user_name)
        if not enabled:
            await self._directory.disable_user(user_id, by=caller.user_name)
        return await self.user(caller, user_id)

    async def set_user_enabled(self, caller: Caller, user_id: str, enabled: bool) -> User:
        """Raises NOT_FOUND and FORBIDDEN, and CONFLICT for disabling oneself."""
        user = await self.user(caller, user_id)
        caller.require(OPERATE)
        if not enabled:
            _check_other(caller, user_id, "disable")
        if enabled != user.enabled:
            change = self._directory.enable_user if enabled else self._directory.disable_user
            await change(user_id, by=caller.user_name)
        return await self.user(caller, user_id)

    async def set_password(self, caller: Caller, user_id: str, password: str) -> None:
        """Set anybody's password. Raises NOT_FOUND, FORBIDDEN and INVALID."""
        await self.user(caller, user_id)
        caller.require(OPERATE)
        await self._directory.set_password(user_id, password, by=caller.user_name)

    async def delete_user(self, caller: Caller, user_id: str) -> None:
        """Raises NOT_FOUND and FORBIDDEN, and CONFLICT for deleting oneself."""
        await self.user(caller, user_id)
        caller.require(OPERATE)
        _check_other(caller, user_id, "delete")
        await self._directory.delete_user(user_id, by=caller.user_name)

    # -- roles --------------------------------------------------------------------------------

    async def members(self, caller: Caller, project_id: str) -> Sequence[Member]:
        """The users of a project. Raises NOT_FOUND and FORBIDDEN."""
        await self._administered(caller, project_id)
        return await self._directory.list_members(project_id)

    async def role(self, caller: Caller, project_id: str, user_id: str) -> str:
        """A user's role in a project; empty without one. Raises NOT_FOUND and FORBIDDEN."""
        project = await self.project(caller, project_id)
        if user_id != caller.user_id:
            await self._administered(caller, project.id)
        await self.user(caller, user_id)
        members = await self._directory.list_members(project_id)
        return next((m.role for m in members if m.user.id == user_id), "")

    async def set_role(self, caller: Caller, project_id: str, user_id: str, role: str) -> None:
        """Give a user a role. An administrator changes roles of members; new ones are invited.

        Raises NOT_FOUND, FORBIDDEN and INVALID, and CONFLICT for one's own role.
        """
        await self._administered(caller, project_id)
        await self.user(caller, user_id)
        check_role(role)
        if OPERATE not in caller.permissions:
            if role in SERVICE_WIDE:
                raise HeliometerError(
                    Code.FORBIDDEN,
                    f"The role {role} reaches beyond the project: only operators grant it.",
                )
            _check_other(caller, user_id, "change the role of")
        await self._directory.grant(user_id, project_id, role, by=caller.user_name)

    async def remove_role(
        self, caller: Caller, project_id: str, user_id: str, role: str | None = None
    ) -> None:
        """Take a user out of a project. Raises NOT_FOUND, also where the user has not this role,
        FORBIDDEN, and CONFLICT for one's own role."""
        held = await self._removable(caller, project_id, user_id)
        if not held or (role is not None and role != held):
            raise HeliometerError(Code.NOT_FOUND, "The user does not have this role there.")
        if OPERATE not in caller.permissions:
            _check_other(caller, user_id, "take the role from")
        await self._directory.revoke_role(user_id, project_id, by=caller.user_name)

    async def _removable(self, caller: Caller, project_id: str, user_id: str) -> str:
        await self._administered(caller, project_id)
        return await self.role(caller, project_id, user_id)

    async def _administered(self, caller: Caller, project_id: str) -> None:
        """Raise NOT_FOUND or FORBIDDEN unless the caller may manage the project's members."""
        await self.project(caller, project_id)
        if OPERATE in caller.permissions:
            return
        if project_id != caller.project_id:
            raise HeliometerError(
                Code.FORBIDDEN,
                "Your token is for another project.",
                details="Sign in to the project whose members you manage.",
            )
        caller.require(ADMINISTER)

    async def _is_mine(self, caller: Caller, user_id: str) -> bool:
        """Whether the caller administers a project that the user belongs to."""
        if not caller.project_id or ADMINISTER not in caller.permissions:
            return False
        members = await self._directory.list_members(caller.project_id)
        return any(m.user.id == user_id for m in members)


def _check_other(caller: Caller, user_id: str, what: str) -> None:
    if user_id == caller.user_id:
        raise HeliometerError(
            Code.CONFLICT, f"You cannot {what} yourself.", details="Somebody else can."
        )


def _missing(what: str, reference: str) -> HeliometerError:
    return HeliometerError(Code.NOT_FOUND, f"Could not find {what}: {reference[:64]}.")
