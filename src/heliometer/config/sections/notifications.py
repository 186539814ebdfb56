"""Notifications, and the channels that every installation has."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class NotifySettings(Struct, frozen=True, forbid_unknown_fields=True):
    retry_period: Annotated[
        int,
        Meta(ge=60, le=30 * 86_400, description="Seconds after which a notification is given up."),
    ] = 86_400
    per_address_per_hour: Annotated[
        int,
        Meta(ge=1, description="Messages an hour to one address; further ones come as a digest."),
    ] = 30
    digest_interval: Annotated[
        int, Meta(ge=10, le=3600, description="Seconds between two digests to one address.")
    ] = 600
    keep_days: Annotated[
        int, Meta(ge=1, description="Days that sent notifications and history are kept.")
    ] = 90
    apprise_schemes: Annotated[
        str,
        Meta(
            description="Kinds of apprise URLs that tenants may use, separated by commas, such as "
            "slack,pagerduty (needs heliometer[apprise])."
        ),
    ] = ""
    heartbeat_to: Annotated[
        str,
        Meta(
            description="Who is told that the service lives, as mailto:ADDRESS or a URL that is "
            "posted to; silence means trouble.",
            pattern="^($|mailto:|https?://)",
        ),
    ] = ""
    heartbeat_interval: Annotated[
        int, Meta(ge=10, le=86_400, description="Seconds between two heartbeats.")
    ] = 3600


class EmailSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Where e-mail goes: smtp://[user:password@]host[:port] (with STARTTLS "
            "where the server offers it), smtps:// (TLS from the start), or maildir:[FOLDER]; "
            "empty folder: outbox/email in the data directory.",
            pattern="^(smtps?://|maildir:)",
        ),
    ] = "maildir:"
    starttls: Annotated[
        Literal["offered", "required", "never"],
        Meta(description="Whether smtp:// goes over to TLS; with a password, it must."),
    ] = "offered"
    ca: Annotated[
        str, Meta(description="PEM file of the authorities that the relay's certificate is from.")
    ] = ""
    sender: Annotated[
        str, Meta(min_length=3, description="Sender of e-mail.", pattern="^[^\\s@]+@[^\\s@]+$")
    ] = "heliometer@localhost"


class SmsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Where SMS go: http:// or https:// of a gateway that takes JSON with to, "
            "text and id, or folder:[FOLDER]; empty folder: outbox/sms in the data directory.",
            pattern="^(https?://|folder:)",
        ),
    ] = "folder:"
    authorization: Annotated[
        str, Meta(description="Authorization header that the gateway wants, such as Bearer TOKEN.")
    ] = ""


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    allow_private: Annotated[
        bool,
        Meta(description="Whether webhooks may go to private, loopback and link-local addresses."),
    ] = False
    require_https: Annotated[
        bool, Meta(description="Whether webhooks must be https://, not http://.")
    ] = False
