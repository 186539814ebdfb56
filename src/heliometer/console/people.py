"""The pages of projects and users of the built-in identity, for administrators."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from heliometer.console.forms import error_of_field
from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.paging import NumberedPage
from heliometer.identity.accounts import User, normalized
from heliometer.identity.builtin.service import BuiltinIdentity
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
    "admin": "everything",
}


def section(identity: BuiltinIdentity) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages and their forms."""
    pages = PeoplePages(identity)
    administer = Permission.ADMINISTER
    one = "/people/users/{user_id}"
    return (
        ("GET", "/people", "Projects and users", pages.people, administer),
        ("POST", "/people/projects", "Create a project", pages.create_project, administer),
        ("POST", "/people/users", "Create a user", pages.create_user, administer),
        ("GET", one, "A user", pages.person, administer),
        ("POST", f"{one}/roles", "Grant a role", pages.grant, administer),
        ("POST", f"{one}/password", "Set a password", pages.set_password, administer),
        ("POST", f"{one}/disable", "Disable a user", pages.disable, administer),
        ("POST", f"{one}/enable", "Enable a user", pages.enable, administer),
    )


class PeoplePages:
    """Projects and users, and one user."""

    def __init__(self, identity: BuiltinIdentity) -> None:
        self._identity = identity

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
