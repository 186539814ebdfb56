"""What the identity operations answer with, for the OpenAPI description."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from heliometer.http.operation import Replies


class KeystoneProblem(Struct):
    code: int
    message: str
    title: str


class KeystoneFault(Struct):
    error: KeystoneProblem


class IdentityVersion(Struct):
    id: str
    status: str
    updated: str
    links: list[dict[str, str]]
    media_types: list[dict[str, str]] = field(name="media-types")


class IdentityVersionReply(Struct):
    version: IdentityVersion


class IdentityVersionValues(Struct):
    values: list[IdentityVersion]


class IdentityVersionsReply(Struct):
    versions: IdentityVersionValues


class Tenant(Struct):
    id: str
    name: str
    enabled: bool
    description: str


class AccessToken(Struct):
    id: str
    issued_at: str
    expires: str
    audit_ids: list[str]
    tenant: Tenant | UnsetType = UNSET


class AccessUser(Struct):
    id: str
    name: str
    username: str
    roles: list[dict[str, str]]
    roles_links: list[Any]


class AccessService(Struct):
    name: str
    type: str
    endpoints: list[dict[str, str]]
    endpoints_links: list[Any]


class Access(Struct, rename={"service_catalog": "serviceCatalog"}):
    token: AccessToken
    user: AccessUser
    service_catalog: list[AccessService]


class AccessReply(Struct):
    """A token with what it is good for (v2.0)."""

    access: Access


class TenantsReply(Struct):
    tenants: list[Tenant]
    tenants_links: list[Any]


class TokenDocument(Struct):
    """A token (v3). Keystone may add fields where it issues them."""

    methods: list[str]
    user: dict[str, Any]
    audit_ids: list[str]
    issued_at: str
    expires_at: str
    project: dict[str, Any] | UnsetType = UNSET
    is_domain: bool | UnsetType = UNSET
    roles: list[dict[str, Any]] | UnsetType = UNSET
    catalog: list[dict[str, Any]] | UnsetType = UNSET


class TokenReply(Struct):
    token: TokenDocument


class ListLinks(Struct):
    self_: str = field(name="self")
    previous: str | None
    next: str | None


class ProjectsReply(Struct):
    projects: list[dict[str, Any]]
    links: ListLinks


class CatalogReply(Struct):
    catalog: list[dict[str, Any]]
    links: ListLinks


class DomainsReply(Struct):
    domains: list[dict[str, Any]]
    links: ListLinks


class ProjectReply(Struct):
    project: dict[str, Any]


class UserDocument(Struct):
    id: str
    name: str
    domain_id: str
    enabled: bool
    password_expires_at: str | None
    options: dict[str, Any]
    links: dict[str, str]


class UserReply(Struct):
    user: UserDocument


class UsersReply(Struct):
    users: list[UserDocument]
    links: ListLinks


class RolesReply(Struct):
    roles: list[dict[str, Any]]
    links: ListLinks


class AssignmentsReply(Struct):
    role_assignments: list[dict[str, Any]]
    links: ListLinks


FAULT = KeystoneFault
VERSIONS: Replies = {"GET ": IdentityVersionsReply}
V2_0: Replies = {
    "GET ": IdentityVersionReply,
    "POST /tokens": AccessReply,
    "GET /tokens/{token_id}": AccessReply,
    "GET /tenants": TenantsReply,
}
V3: Replies = {
    "GET ": IdentityVersionReply,
    "POST /auth/tokens": TokenReply,
    "GET /auth/tokens": TokenReply,
    "GET /auth/projects": ProjectsReply,
    "GET /auth/catalog": CatalogReply,
    "GET /auth/domains": DomainsReply,
    "GET /projects": ProjectsReply,
    "POST /projects": ProjectReply,
    "GET /projects/{project_id}": ProjectReply,
    "PATCH /projects/{project_id}": ProjectReply,
    "GET /users": UsersReply,
    "POST /users": UserReply,
    "GET /users/{user_id}": UserReply,
    "PATCH /users/{user_id}": UserReply,
    "GET /users/{user_id}/projects": ProjectsReply,
    "GET /roles": RolesReply,
    "GET /role_assignments": AssignmentsReply,
    "GET /projects/{project_id}/users/{user_id}/roles": RolesReply,
}
