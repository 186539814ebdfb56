"""Projects and users of the built-in identity, for who administers the service."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.accounts import User, normalized
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import ROLES, Permission

HERE = "/console/people"
PAGE = 50
"""Users that are shown at once: what each may do is looked up."""
PROJECTS = 500
"""Projects that are shown."""
MEANING = {
    "reader": "only reads",
    "member": "reads, posts and manages",
    "agent": "reads, and posts for all projects",
    "admin": "everything",
}


def section(
    identity: BuiltinIdentity,
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages."""

    async def shown(visit: PageRequest) -> dict[str, Any]:
        """Everybody."""
        part = normalized(visit.query.get("name", "").strip())
        users = [user for user in await identity.list_users() if part.lower() in user.name.lower()]
        text = visit.query.get("page", "")
        pages = max(1, -(-len(users) // PAGE))
        page = min(max(int(text) if text.isdecimal() and len(text) < 10 else 1, 1), pages)
        start = (page - 1) * PAGE
        projects = await identity.list_projects()
        return {
            "section": "people",
            "projects": projects[:PROJECTS],
            "project_count": len(projects),
            "users": [
                (user, await identity.list_memberships(user.id))
                for user in users[start : start + PAGE]
            ],
            "user_count": len(users),
            "name": part,
            "page": page,
            "pages": pages,
            "roles": [(role, f"{role}: {MEANING[role]}") for role in ROLES],
            "form": "",
        }

    async def of(visit: PageRequest, user: User) -> dict[str, Any]:
        """One of them."""
        return {
            "section": "people",
            "user": user,
            "is_self": user.id == visit.session.caller.user_id,
            "memberships": await identity.list_memberships(user.id),
            "projects": (await identity.list_projects())[:PROJECTS],
            "roles": [(role, f"{role}: {MEANING[role]}") for role in ROLES],
            "form": "",
        }

    async def found(visit: PageRequest) -> User:
        """The user that the path names."""
        for user in await identity.list_users():
            if user.id == visit.path("user_id"):
                return user
        raise HeliometerError(Code.NOT_FOUND, "There is no such user.")

    async def people(visit: PageRequest) -> Response:
        return visit.page("people.html", **await shown(visit))

    async def person(visit: PageRequest) -> Response:
        return visit.page("person.html", **await of(visit, await found(visit)))

    async def create_project(visit: PageRequest) -> Response:
        name = visit.form.get("project", "")
        try:
            await identity.create_project(name, by=visit.session.caller.user_name)
        except HeliometerError as error:
            error = _beside("project", error)
            return visit.wrong("people.html", error, **{**await shown(visit), "form": "project"})
        return visit.go(HERE, f"Project {name} was created. Nobody belongs to it yet.")

    async def create_user(visit: PageRequest) -> Response:
        form = visit.form
        try:
            user_id = await identity.create_user(
                form.get("user", ""), form.get("password", ""), form.get("member_of", ""),
                form.get("role", ""), by=visit.session.caller.user_name,
            )  # fmt: skip
        except HeliometerError as error:
            error = _beside("member_of" if error.code is Code.NOT_FOUND else "user", error)
            return visit.wrong("people.html", error, **{**await shown(visit), "form": "user"})
        return visit.go(f"{HERE}/users/{user_id}", f"User {form['user']} was created.")

    async def grant(visit: PageRequest) -> Response:
        user = await found(visit)
        project, role = visit.form.get("member_of", ""), visit.form.get("role", "")
        try:
            await identity.grant(user.id, project, role, by=visit.session.caller.user_name)
        except HeliometerError as error:
            error = _beside("member_of", error)
            return visit.wrong("person.html", error, **{**await of(visit, user), "form": "grant"})
        return visit.go(f"{HERE}/users/{user.id}", f"{user.name} is {role} in {project} now.")

    async def set_password(visit: PageRequest) -> Response:
        user = await found(visit)
        try:
            await identity.set_password(
                user.id, visit.form.get("password", ""), by=visit.session.caller.user_name
            )
        except HeliometerError as error:
            error = _beside("password", error)
            context = {**await of(visit, user), "form": "password"}
            return visit.wrong("person.html", error, **context)
        # Whoever changes its own password signs in anew: all of its sessions ended.
        return visit.go(f"{HERE}/users/{user.id}", f"{user.name} has a new password.")

    async def disable(visit: PageRequest) -> Response:
        user, caller = await found(visit), visit.session.caller
        if user.id == caller.user_id:
            error = HeliometerError(
                Code.CONFLICT,
                "You cannot disable yourself.",
                details="Another administrator can.",
            )
            return visit.wrong("person.html", error, **await of(visit, user))
        await identity.disable_user(user.id, by=caller.user_name)
        return visit.go(f"{HERE}/users/{user.id}", f"{user.name} is kept out from now on.")

    async def enable(visit: PageRequest) -> Response:
        user = await found(visit)
        await identity.enable_user(user.id, by=visit.session.caller.user_name)
        return visit.go(f"{HERE}/users/{user.id}", f"{user.name} may sign in again.")

    administer = Permission.ADMINISTER
    one = "/people/users/{user_id}"
    return (
        ("GET", "/people", "Projects and users", people, administer),
        ("POST", "/people/projects", "Create a project", create_project, administer),
        ("POST", "/people/users", "Create a user", create_user, administer),
        ("GET", one, "A user", person, administer),
        ("POST", f"{one}/roles", "Grant a role", grant, administer),
        ("POST", f"{one}/password", "Set a password", set_password, administer),
        ("POST", f"{one}/disable", "Disable a user", disable, administer),
        ("POST", f"{one}/enable", "Enable a user", enable, administer),
    )


def elsewhere() -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """What is said instead where users live in Keystone."""

    async def people(visit: PageRequest) -> Response:
        raise HeliometerError(
            Code.NOT_FOUND,
            "Users and projects live in Keystone.",
            details="Manage them there: with Horizon, or openstack user and openstack project.",
        )

    return (("GET", "/people", "Projects and users", people, Permission.ADMINISTER),)


def _beside(field: str, error: HeliometerError) -> HeliometerError:
    """The error with the field that it is about, unless it names one already."""
    name, colon, _ = error.message.partition(": ")
    if colon and name in ("user", "project", "password", "role"):
        return error
    return HeliometerError(error.code, f"{field}: {error.message}", details=error.details)
