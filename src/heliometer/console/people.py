"""The pages of all projects and users of the built-in identity, for operators."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from heliometer.console.forms import error_of_field
from heliometer.console.members import MemberPages
from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.http.paging import NumberedPage
from heliometer.identity.accounts import Project, User, normalized
from heliometer.identity.builtin.administration import Administration
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.invitations import Invitations
from heliometer.identity.model import ROLES, Permission

HERE = "/console/people"
PAGE = 50
"""Users on one page; the roles of each are looked up."""
PROJECTS = 500
"""Most projects on a page."""
ROLE_HELP = {
    "reader": "only reads",
    "member": "reads, posts and manages",
    "agent": "reads, and posts for all projects",
    "admin": "manages, and administers members",
}


def section(
    identity: BuiltinIdentity, invitations: Invitations | None
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages and their forms."""
    pages, projects = (
        PeoplePages(identity, MemberPages(identity, invitations)),
        ProjectPages(identity),
    )
    operate = Permission.OPERATE
    one, project = "/people/users/{user_id}", "/people/projects/{project_id}"
    return (
        ("GET", "/people", "Projects and users", pages.people, Permission.ADMINISTER),
        ("POST", "/people/projects", "Create a project", pages.create_project, operate),
        ("POST", "/people/users", "Create a user", pages.create_user, operate),
        ("GET", one, "A user", pages.person, operate),
        ("POST", f"{one}/roles", "Grant a role", pages.grant, operate),
        ("POST", f"{one}/roles/remove", "Take a role away", pages.take_role, operate),
        ("POST", f"{one}/password", "Set a password", pages.set_password, operate),
        ("POST", f"{one}/disable", "Disable a user", pages.disable, operate),
        ("POST", f"{one}/enable", "Enable a user", pages.enable, operate),
        ("POST", f"{one}/delete", "Delete a user", pages.delete, operate),
        ("GET", project, "A project", projects.show, operate),
        ("POST", f"{project}/disable", "Disable a project", projects.disable, operate),
        ("POST", f"{project}/enable", "Enable a project", projects.enable, operate),
        ("POST", f"{project}/delete", "Delete a project", projects.delete, operate),
    )


class PeoplePages:
    """Projects and users, and one user."""

    def __init__(self, identity: BuiltinIdentity, members: MemberPages) -> None:
        self._identity = identity
        self._members = members
        self._administration = Administration(identity)

    async def _all(self, request: PageRequest) -> dict[str, Any]:
        """The context of the list."""
        part = normalized(request.query.get("name", "").strip())
        users = [
            user for user in await self._identity.list_users() if part.lower() in user.name.lower()
        ]
        text = request.query.get("page", "")
        number = int(text) if text.isdecimal() and len(text) < 10 else 1
        page = NumberedPage(number, PAGE, len(users)).within()
        projects = await self._identity.list_projects()
        return {
            "section": "people",
            "projects": projects[:PROJECTS],
            "project_count": len(projects),
            "users": [
                (user, await self._identity.list_memberships(user.id)) for user in page.of(users)
            ],
            "user_count": len(users),
            "name": part,
            "page": page.number,
            "pages": page.last,
            "roles": [(role, f"{role}: {ROLE_HELP[role]}") for role in ROLES],
            "form": "",
        }

    async def _one(self, request: PageRequest, user: User) -> dict[str, Any]:
        """The context of one user's page."""
        return {
            "section": "people",
            "user": user,
            "is_self": user.id == request.session.caller.user_id,
            "memberships": await self._identity.list_memberships(user.id),
            "holdings": await self._identity.user_holdings(user.id),
            "projects": (await self._identity.list_projects())[:PROJECTS],
            "roles": [(role, f"{role}: {ROLE_HELP[role]}") for role in ROLES],
            "form": "",
        }

    async def _user(self, request: PageRequest) -> User:
        """The user of the path. Raises NOT_FOUND."""
        for user in await self._identity.list_users():
            if user.id == request.path("user_id"):
                return user
        raise HeliometerError(Code.NOT_FOUND, "There is no such user.")

    async def people(self, request: PageRequest) -> Response:
        if not request.session.is_operator:
            return await self._members.members(request)
        return request.page("people.html", **await self._all(request))

    async def person(self, request: PageRequest) -> Response:
        return request.page("person.html", **await self._one(request, await self._user(request)))

    async def create_project(self, request: PageRequest) -> Response:
        name = request.form.get("project", "")
        try:
            await self._identity.create_project(name, by=request.session.caller.user_name)
        except HeliometerError as error:
            error = _about("project", error)
            return request.wrong(
                "people.html", error, **{**await self._all(request), "form": "project"}
            )
        return request.go(HERE, f"Project {name} was created. Nobody belongs to it yet.")

    async def create_user(self, request: PageRequest) -> Response:
        form = request.form
        try:
            user_id = await self._identity.create_user(
                form.get("user", ""), form.get("password", ""), form.get("member_of", ""),
                form.get("role", ""), by=request.session.caller.user_name,
            )  # fmt: skip
        except HeliometerError as error:
            error = _about("member_of" if error.code is Code.NOT_FOUND else "user", error)
            return request.wrong(
                "people.html", error, **{**await self._all(request), "form": "user"}
            )
        return request.go(f"{HERE}/users/{user_id}", f"User {form['user']} was created.")

    async def grant(self, request: PageRequest) -> Response:
        user = await self._user(request)
        project, role = request.form.get("member_of", ""), request.form.get("role", "")
        try:
            await self._identity.grant(user.id, project, role, by=request.session.caller.user_name)
        except HeliometerError as error:
            error = _about("member_of", error)
            return request.wrong(
                "person.html", error, **{**await self._one(request, user), "form": "grant"}
            )
        return request.go(f"{HERE}/users/{user.id}", f"{user.name} is {role} in {project} now.")

    async def take_role(self, request: PageRequest) -> Response:
        user, project_id = await self._user(request), request.form.get("from", "")
        try:
            await self._administration.remove_role(request.session.caller, project_id, user.id)
        except HeliometerError as error:
            return request.wrong("person.html", error, **await self._one(request, user))
        return request.go(f"{HERE}/users/{user.id}", f"{user.name} has left the project.")

    async def set_password(self, request: PageRequest) -> Response:
        user = await self._user(request)
        try:
            await self._identity.set_password(
                user.id, request.form.get("password", ""), by=request.session.caller.user_name
            )
        except HeliometerError as error:
            error = _about("password", error)
            context = {**await self._one(request, user), "form": "password"}
            return request.wrong("person.html", error, **context)
        # After changing their own password users sign in again: all their sessions have ended.
        return request.go(f"{HERE}/users/{user.id}", f"{user.name} has a new password.")

    async def disable(self, request: PageRequest) -> Response:
        user, caller = await self._user(request), request.session.caller
        if user.id == caller.user_id:
            error = HeliometerError(
                Code.CONFLICT,
                "You cannot disable yourself.",
                details="Another administrator can.",
            )
            return request.wrong("person.html", error, **await self._one(request, user))
        await self._identity.disable_user(user.id, by=caller.user_name)
        return request.go(f"{HERE}/users/{user.id}", f"{user.name} is disabled.")

    async def enable(self, request: PageRequest) -> Response:
        user = await self._user(request)
        await self._identity.enable_user(user.id, by=request.session.caller.user_name)
        return request.go(f"{HERE}/users/{user.id}", f"{user.name} may sign in again.")

    async def delete(self, request: PageRequest) -> Response:
        user = await self._user(request)
        try:
            await self._administration.delete_user(request.session.caller, user.id)
        except HeliometerError as error:
            return request.wrong("person.html", error, **await self._one(request, user))
        return request.go(HERE, f"User {user.name} was deleted.")


class ProjectPages:
    """One project: what it has, and what ends it."""

    def __init__(self, identity: BuiltinIdentity) -> None:
        self._administration = Administration(identity)

    async def _project(self, request: PageRequest) -> Project:
        """The project of the path. Raises NOT_FOUND."""
        return await self._administration.project(
            request.session.caller, request.path("project_id")
        )

    async def _context(self, request: PageRequest, project: Project) -> dict[str, Any]:
        caller = request.session.caller
        return {
            "section": "people",
            "project": project,
            "is_own": project.id == caller.project_id,
            "members": await self._administration.members(caller, project.id),
            "holdings": await self._administration.project_holdings(caller, project.id),
        }

    async def show(self, request: PageRequest) -> Response:
        project = await self._project(request)
        return request.page("project.html", **await self._context(request, project))

    async def disable(self, request: PageRequest) -> Response:
        return await self._set_enabled(request, False)

    async def enable(self, request: PageRequest) -> Response:
        return await self._set_enabled(request, True)

    async def _set_enabled(self, request: PageRequest, enabled: bool) -> Response:
        project = await self._project(request)
        caller = request.session.caller
        if not enabled and project.id == caller.project_id:
            error = HeliometerError(
                Code.CONFLICT,
                "You are working in this project.",
                details="Switch to another one first.",
            )
            return request.wrong("project.html", error, **await self._context(request, project))
        await self._administration.set_project_enabled(caller, project.id, enabled)
        said = "is enabled" if enabled else "is disabled"
        return request.go(f"{HERE}/projects/{project.id}", f"Project {project.name} {said}.")

    async def delete(self, request: PageRequest) -> Response:
        project = await self._project(request)
        try:
            if request.form.get("name", "") != project.name:
                raise Invalid("name: it is not the name of this project.")
            await self._administration.delete_project(request.session.caller, project.id)
        except HeliometerError as error:
            return request.wrong("project.html", error, **await self._context(request, project))
        return request.go(HERE, f"Project {project.name} was deleted.")


def elsewhere() -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The page where users live in Keystone, which only says so."""
    return (("GET", "/people", "Projects and users", _refer, Permission.ADMINISTER),)


async def _refer(_: PageRequest) -> Response:
    raise HeliometerError(
        Code.NOT_FOUND,
        "Users and projects live in Keystone.",
        details="Manage them there: with Horizon, or openstack user and openstack project.",
    )


def _about(field: str, error: HeliometerError) -> HeliometerError:
    return error_of_field(field, error, ("user", "project", "password", "role"))
