"""Identity v3: signing in (Keystone v3, "Authentication and tokens"), users, projects, roles."""

from typing import Any, Protocol

from starlette.responses import Response

from heliometer.api.keystone import (
    replies,
    v3_body,
    v3_builtin,
    v3_keystone,
    v3_people,
    versions,
)
from heliometer.api.keystone.faults import challenged, render_fault
from heliometer.api.services import Services
from heliometer.http.operation import Call, Dialect, Operation, Parameter
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.keystone.service import KeystoneIdentity

SOURCE = "Keystone v3, Authentication and token management"
EXAMPLE = {
    "auth": {
        "identity": {
            "methods": ["password"],
            "password": {
                "user": {"name": "demo", "domain": {"id": "default"}, "password": "secret"}
            },
        },
        "scope": {"project": {"name": "demo", "domain": {"id": "default"}}},
    }
}
CHANGE = {"user": {"original_password": "secret", "password": "a few new words"}}
SUBJECT = Parameter("X-Subject-Token", "The token that is meant.", required=True, where="header")
NO_CATALOG = Parameter("nocatalog", "Leave the catalog out.")


class Handlers(Protocol):
    """The operations of v3, which each kind of identity implements."""

    async def sign_in(self, call: Call) -> Response: ...
    async def validate(self, call: Call) -> Response: ...
    async def check(self, call: Call) -> Response: ...
    async def revoke(self, call: Call) -> Response: ...
    async def projects(self, call: Call) -> Response: ...
    async def catalog(self, call: Call) -> Response: ...
    async def domains(self, call: Call) -> Response: ...
    async def change_password(self, call: Call) -> Response: ...


def dialect(services: Services) -> Dialect:
    """The dialect at ``/identity/v3``, over the built-in identity or Keystone's."""
    identity, region = services.identity, services.settings.identity.region
    if isinstance(identity, KeystoneIdentity):
        return _dialect(v3_keystone.KeystoneHandlers(identity, region), v3_keystone.SignIn)
    assert isinstance(identity, BuiltinIdentity)
    people = v3_people.PeopleHandlers(identity).operations()
    return _dialect(v3_builtin.BuiltinHandlers(identity, region), v3_body.SignIn, people)


def _dialect(handlers: Handlers, sign_in: type[Any], people: tuple[Operation, ...] = ()) -> Dialect:
    def operation(
        method: str, path: str, summary: str, handler: Any, *faults: int, **more: Any
    ) -> Operation:
        return Operation(
            method, path, summary, SOURCE, challenged(handler, "v3"), faults=faults, **more
        )

    tokens = "/auth/tokens"
    return Dialect(
        name="identity-v3",
        title="Identity v3 (Keystone-compatible)",
        prefix="/identity/v3",
        operations=(
            versions.version_document("v3"),
            operation(
                "POST",
                tokens,
                "Sign in",
                handlers.sign_in,
                *(400, 401, 429),
                success=201,
                parameters=(NO_CATALOG,),
                body=sign_in,
                example=EXAMPLE,
            ),
            operation(
                "GET",
                tokens,
                "Validate a token",
                handlers.validate,
                *(401, 403, 404),
                parameters=(SUBJECT, NO_CATALOG),
            ),
            operation(
                "HEAD",
                tokens,
                "Check a token",
                handlers.check,
                *(401, 403, 404),
                parameters=(SUBJECT,),
            ),
            operation(
                "DELETE",
                tokens,
                "Revoke a token",
                handlers.revoke,
                *(401, 403, 404),
                success=204,
                parameters=(SUBJECT,),
            ),
            operation(
                "POST",
                "/users/{user_id}/password",
                "Change my password",
                handlers.change_password,
                *(400, 401, 429),
                success=204,
                body=v3_body.PasswordChange,
                example=CHANGE,
            ),
            operation("GET", "/auth/projects", "List my projects", handlers.projects, 401),
            operation("GET", "/auth/catalog", "Show the catalog", handlers.catalog, 401, 403),
            operation("GET", "/auth/domains", "List my domains", handlers.domains, 401),
            *people,
        ),
        render_fault=render_fault,
        replies=replies.V3,
        fault=replies.FAULT,
    )
