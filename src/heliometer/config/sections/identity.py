"""Users, roles and tokens."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class IdentitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: Annotated[
        Literal["builtin", "keystone"],
        Meta(description="Where users and projects are managed: here, or in OpenStack's Keystone."),
    ] = "builtin"
    keystone_url: Annotated[
        str,
        Meta(
            description="Keystone's public URL, such as https://keystone.example/v3.",
            pattern="^($|https?://)",
        ),
    ] = ""
    keystone_user: Annotated[str, Meta(description="Service user that validates tokens.")] = (
        "heliometer"
    )
    keystone_password: Annotated[str, Meta(description="The service user's password.")] = ""
    keystone_project: Annotated[str, Meta(description="The service user's project.")] = "service"
    keystone_domain: Annotated[
        str,
        Meta(
            description="Name of the service user's domain, which is also the default for users "
            "that give none."
        ),
    ] = "Default"
    keystone_ca: Annotated[
        str, Meta(description="PEM file of the authorities that signed Keystone's certificate.")
    ] = ""
    keystone_roles: Annotated[
        str,
        Meta(
            description="Which role here each of Keystone's roles maps to, as KEYSTONE=HERE "
            "separated by commas; users with none of them are refused."
        ),
    ] = "reader=reader,member=member,admin=admin,service=agent"
    region: Annotated[str, Meta(min_length=1, description="Region in the service catalog.")] = (
        "region-a.geo-1"
    )
    token_lifetime: Annotated[
        int, Meta(ge=60, le=30 * 86400, description="Seconds for which a token is valid.")
    ] = 86_400
    audit_days: Annotated[
        int,
        Meta(ge=1, le=36_500, description="Days for which the audit trail of all changes is kept."),
    ] = 365
