"""Users, projects and roles of the built-in identity in Keystone v3's form."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

from heliometer.api.keystone.catalog import stable_id
from heliometer.api.keystone.faults import challenged, reply
from heliometer.api.keystone.requests import links, read, signed_in
from heliometer.api.keystone.v3_body import DOMAIN
from heliometer.core.errors import Code, HeliometerError
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.accounts import Project, User
from heliometer.identity.builtin.administration import Administration
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.model import ROLES, Caller

SOURCE = "Keystone v3, Users, Projects and Roles"
ROLE_IDS = {stable_id("role", name): name for name in ROLES}


class NewProject(Struct):
    name: str
    enabled: bool = True


class CreateProject(Struct):
    """``POST /projects``. Other fields of Keystone's are ignored."""

    project: NewProject


class ChangedProject(Struct):
    enabled: bool


class UpdateProject(Struct):
    """``PATCH /projects/ID``."""

    project: ChangedProject


class NewUser(Struct):
    name: str
    password: str
    enabled: bool = True


class CreateUser(Struct):
    """``POST /users``. The user belongs to no project before it is given a role."""

    user: NewUser


class ChangedUser(Struct):
    enabled: bool | UnsetType = UNSET
    password: str | UnsetType = UNSET


class UpdateUser(Struct):
    """``PATCH /users/ID``."""

    user: ChangedUser


class PeopleHandlers:
    """Lists and changes what the caller may."""

    def __init__(self, identity: BuiltinIdentity) -> None:
        self._identity = identity
        self._people = Administration(identity)

    def operations(self) -> tuple[Operation, ...]:
        """All below ``/identity/v3``."""
        project, user = "/projects/{project_id}", "/users/{user_id}"
        role = f"{project}{user}/roles/{{role_id}}"
        name = Parameter("name", "Only the one with this name.")
        seen = (401, 403, 404)
        return (
            _operation("GET", "/projects", "List projects", self.projects, 401, parameters=(name,)),
            _operation("POST", "/projects", "Create a project", self.create_project, 400, 401, 403,
                       409, success=201, body=CreateProject,
                       example={"project": {"name": "shop"}}),
            _operation("GET", project, "Show a project", self.project, 401, 404),
            _operation("PATCH", project, "Enable or disable a project", self.change_project, 400,
                       *seen, body=UpdateProject, example={"project": {"enabled": False}}),
            _operation("DELETE", project, "Delete a project", self.delete_project, *seen, 409,
                       success=204),
            _operation("GET", "/users", "List users", self.users, 401, 403, parameters=(name,)),
            _operation("POST", "/users", "Create a user", self.create_user, 400, 401, 403, 409,
                       success=201, body=CreateUser,
                       example={"user": {"name": "anna", "password": "a few words"}}),
            _operation("GET", user, "Show a user", self.user, 401, 404),
            _operation("PATCH", user, "Enable or disable a user, or set the password",
                       self.change_user, 400, *seen, 409, body=UpdateUser,
                       example={"user": {"enabled": False}}),
            _operation("DELETE", user, "Delete a user", self.delete_user, *seen, 409, success=204),
            _operation("GET", f"{user}/projects", "List a user's projects", self.user_projects,
                       401, 404),
            _operation("GET", "/roles", "List roles", self.roles, 401, parameters=(name,)),
            _operation("GET", "/role_assignments", "List who has which role",
                       self.assignments, *seen,
                       parameters=(Parameter("scope.project.id", "Only in this project."),
                                   Parameter("user.id", "Only of this user."))),
            _operation("GET", f"{project}{user}/roles", "List a user's roles in a project",
                       self.held, *seen),
            _operation("HEAD", role, "Check a role", self.check_role, *seen, success=204),
            _operation("PUT", role, "Give a role", self.give_role, *seen, 409, success=204),
            _operation("DELETE", role, "Take a role away", self.take_role, *seen, 409,
                       success=204),
        )  # fmt: skip

    # -- projects -----------------------------------------------------------------------------

    async def projects(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        found = [p for p in await self._people.projects(caller) if _is_named(call, p.name)]
        body = {"projects": [project_document(call, p) for p in found]}
        return reply({**body, "links": links(call, "/projects")}, vary=True)

    async def create_project(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        given = (await read(call, CreateProject)).project
        made = await self._people.create_project(caller, given.name, enabled=given.enabled)
        return reply({"project": project_document(call, made)}, 201, vary=True)

    async def project(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        found = await self._people.project(caller, call.path_params["project_id"])
        return reply({"project": project_document(call, found)}, vary=True)

    async def change_project(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        enabled = (await read(call, UpdateProject)).project.enabled
        changed = await self._people.set_project_enabled(
            caller, call.path_params["project_id"], enabled
        )
        return reply({"project": project_document(call, changed)}, vary=True)

    async def delete_project(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        await self._people.delete_project(caller, call.path_params["project_id"])
        return reply(status=204, vary=True)

    # -- users --------------------------------------------------------------------------------

    async def users(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        found = [u for u in await self._people.users(caller) if _is_named(call, u.name)]
        body = {"users": [_user(call, u) for u in found], "links": links(call, "/users")}
        return reply(body, vary=True)

    async def create_user(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        given = (await read(call, CreateUser)).user
        made = await self._people.create_user(
            caller, given.name, given.password, enabled=given.enabled
        )
        return reply({"user": _user(call, made)}, 201, vary=True)

    async def user(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        found = await self._people.user(caller, call.path_params["user_id"])
        return reply({"user": _user(call, found)}, vary=True)

    async def change_user(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        user_id, given = call.path_params["user_id"], (await read(call, UpdateUser)).user
        if given.password is not UNSET:
            await self._people.set_password(caller, user_id, given.password)
        if given.enabled is not UNSET:
            await self._people.set_user_enabled(caller, user_id, given.enabled)
        found = await self._people.user(caller, user_id)
        return reply({"user": _user(call, found)}, vary=True)

    async def delete_user(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        await self._people.delete_user(caller, call.path_params["user_id"])
        return reply(status=204, vary=True)

    async def user_projects(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        user_id = call.path_params["user_id"]
        found = await self._people.memberships(caller, user_id)
        body = {"projects": [project_document(call, m.project) for m in found]}
        return reply({**body, "links": links(call, f"/users/{user_id}/projects")}, vary=True)

    # -- roles --------------------------------------------------------------------------------

    async def roles(self, call: Call) -> Response:
        await signed_in(self._identity, call)
        named = [_role(call, name) for name in ROLES if _is_named(call, name)]
        return reply({"roles": named, "links": links(call, "/roles")}, vary=True)

    async def assignments(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        query = call.request.query_params
        project_id, user_id = query.get("scope.project.id"), query.get("user.id")
        if user_id is not None:
            roles = [
                (user_id, m.project.id, m.role)
                for m in await self._people.memberships(caller, user_id)
                if project_id in (None, m.project.id)
            ]
        else:
            wanted = project_id or caller.project_id
            members = await self._people.members(caller, wanted)
            roles = [(m.user.id, wanted, m.role) for m in members]
        body = {
            "role_assignments": [
                {
                    "user": {"id": user},
                    "role": {"id": stable_id("role", role)},
                    "scope": {"project": {"id": project}},
                    "links": {},
                }
                for user, project, role in roles
            ],
            "links": links(call, "/role_assignments"),
        }
        return reply(body, vary=True)

    async def held(self, call: Call) -> Response:
        caller = await signed_in(self._identity, call)
        project_id, user_id = call.path_params["project_id"], call.path_params["user_id"]
        role = await self._people.role(caller, project_id, user_id)
        path = f"/projects/{project_id}/users/{user_id}/roles"
        body = {"roles": [_role(call, role)] if role else [], "links": links(call, path)}
        return reply(body, vary=True)

    async def check_role(self, call: Call) -> Response:
        caller, project_id, user_id, role = await self._named(call)
        if await self._people.role(caller, project_id, user_id) != role:
            raise HeliometerError(Code.NOT_FOUND, "The user does not have this role there.")
        return reply(status=204, vary=True)

    async def give_role(self, call: Call) -> Response:
        caller, project_id, user_id, role = await self._named(call)
        await self._people.set_role(caller, project_id, user_id, role)
        return reply(status=204, vary=True)

    async def take_role(self, call: Call) -> Response:
        caller, project_id, user_id, role = await self._named(call)
        await self._people.remove_role(caller, project_id, user_id, role)
        return reply(status=204, vary=True)

    async def _named(self, call: Call) -> tuple[Caller, str, str, str]:
        """The caller, and the project, user and role of the path."""
        caller = await signed_in(self._identity, call)
        params = call.path_params
        role = ROLE_IDS.get(params["role_id"])
        if role is None:
            raise HeliometerError(Code.NOT_FOUND, f"Could not find role: {params['role_id'][:64]}.")
        return caller, params["project_id"], params["user_id"], role


def project_document(call: Call, project: Project) -> dict[str, Any]:
    """A project in Keystone's form."""
    return {
        "id": project.id,
        "name": project.name,
        "domain_id": DOMAIN["id"],
        "parent_id": DOMAIN["id"],
        "description": "",
        "enabled": project.enabled,
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{call.base_url}/identity/v3/projects/{project.id}"},
    }


def _user(call: Call, user: User) -> Mapping[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "domain_id": DOMAIN["id"],
        "enabled": user.enabled,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{call.base_url}/identity/v3/users/{user.id}"},
    }


def _role(call: Call, name: str) -> Mapping[str, Any]:
    role_id = stable_id("role", name)
    return {
        "id": role_id,
        "name": name,
        "domain_id": None,
        "description": "",
        "options": {},
        "links": {"self": f"{call.base_url}/identity/v3/roles/{role_id}"},
    }


def _is_named(call: Call, name: str) -> bool:
    return call.request.query_params.get("name", name) == name


def _operation(
    method: str, path: str, summary: str, handler: Any, *faults: int, **more: Any
) -> Operation:
    return Operation(
        method, path, summary, SOURCE, challenged(handler, "v3"), faults=faults, **more
    )
