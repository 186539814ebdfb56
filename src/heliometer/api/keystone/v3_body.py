"""The body of a v3 sign-in, for the built-in identity with its one domain, ``default``."""

from typing import Any

from msgspec import Struct, field

from heliometer.core.errors import Malformed
from heliometer.identity.model import unauthenticated

DOMAIN = {"id": "default", "name": "Default"}


class Domain(Struct):
    id: str | None = None
    name: str | None = None


class User(Struct):
    password: str
    id: str | None = None
    name: str | None = None
    domain: Domain | None = None


class Password(Struct):
    user: User


class Token(Struct):
    id: str


class Identity(Struct):
    methods: list[str]
    password: Password | None = None
    token: Token | None = None


class Project(Struct):
    id: str | None = None
    name: str | None = None
    domain: Domain | None = None


class Scope(Struct):
    project: Project | None = None
    unscoped: dict[str, Any] | None = None
    domain: Domain | None = None
    system: dict[str, Any] | None = None
    trust: dict[str, Any] | None = field(default=None, name="OS-TRUST:trust")


class Auth(Struct):
    identity: Identity
    scope: Scope | str | None = None


class SignIn(Struct):
    """``POST /auth/tokens``. Without a scope the token is unscoped."""

    auth: Auth


class NewPassword(Struct):
    password: str
    original_password: str


class PasswordChange(Struct):
    """``POST /users/ID/password``."""

    user: NewPassword


def user_of(user: User) -> str:
    """The user's id or name. Raises MALFORMED without either, UNAUTHENTICATED for other domains."""
    path = "auth.identity.password.user"
    if user.id is not None:
        return user.id
    if user.name is None:
        raise Malformed(f"{path}: id or name must be given.")
    _check_domain(user.domain, path)
    return user.name


def project_of(scope: Scope | str | None) -> str | None:
    """The project's id or name; ``None`` for unscoped. Raises as ``user_of`` does."""
    if scope is None or scope == "unscoped":
        return None
    if isinstance(scope, str):
        raise Malformed(f'auth.scope: {scope[:40]!r} is none; the only word is "unscoped".')
    given = [name for name in scope.__struct_fields__ if getattr(scope, name) is not None]
    if len(given) != 1:
        raise Malformed('auth.scope: it must hold one thing: a project, or be "unscoped".')
    if scope.unscoped is not None:
        return None
    if scope.project is None:
        raise unauthenticated(
            f"There are no {given[0]} roles here: scope the token to a project, "
            'or ask for "unscoped".'
        )
    if scope.project.id is not None:
        return scope.project.id
    if scope.project.name is None:
        raise Malformed("auth.scope.project: id or name must be given.")
    _check_domain(scope.project.domain, "auth.scope.project")
    return scope.project.name


def _check_domain(domain: Domain | None, path: str) -> None:
    # Without a domain the only one is meant.
    if domain is None:
        return
    if domain.id is None and domain.name is None:
        raise Malformed(f"{path}.domain: id or name must be given.")
    if domain.id not in (None, DOMAIN["id"]) or (
        domain.name is not None and domain.name.casefold() != DOMAIN["name"].casefold()
    ):
        raise unauthenticated(
            f"{path}.domain: there is no such domain; the only one has the id "
            f"{DOMAIN['id']!r} and the name {DOMAIN['name']!r}."
        )
