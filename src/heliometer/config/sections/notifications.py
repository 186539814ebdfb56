"""Notifications, and the channels that every installation has."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class NotifySettings(Struct, frozen=True, forbid_unknown_fields=True):
    retry_period: Annotated[
        int,
        Meta(
            ge=60,
            le=30 * 86_400,
            description="Seconds after which sending a notification is given up.",
        ),
    ] = 86_400
    per_address_per_hour: Annotated[
        int,
        Meta(
            ge=1,
            description="Messages per hour to one address; further ones are combined in a digest.",
        ),
    ] = 30
    digest_interval: Annotated[
        int, Meta(ge=10, le=3600, description="Seconds between two digests to one address.")
    ] = 600
    keep_days: Annotated[
        int, Meta(ge=1, description="Days for which sent notifications and alarm history are kept.")
    ] = 90
    apprise_schemes: Annotated[
        str,
        Meta(
            description="Schemes of apprise URLs that tenants may use, separated by commas, such "
            "as slack,pagerduty (needs heliometer[apprise])."
        ),
    ] = ""
    heartbeat_to: Annotated[
        str,
        Meta(
            description="Where to send heartbeats while the service is alive: mailto:ADDRESS, or "
            "a URL to post to; if they stop, something is wrong.",
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
            description="Where e-mail is sent: smtp://[user:password@]host[:port] (with STARTTLS "
            "if the server offers it), smtps:// (TLS from the start), or "
            "maildir:[FOLDER]; if FOLDER is empty, outbox/email in the data "
            "directory.",
            pattern="^(smtps?://|maildir:)",
        ),
    ] = "maildir:"
    starttls: Annotated[
        Literal["offered", "required", "never"],
        Meta(description="Whether smtp:// switches to TLS; with a password, it must."),
    ] = "offered"
    ca: Annotated[
        str, Meta(description="PEM file of the authorities that signed the relay's certificate.")
    ] = ""
    allow_local: Annotated[
        bool,
        Meta(
            description="Whether tenants may name addresses that only this network knows, such as "
            "root@localhost or ops@corp.local."
        ),
    ] = False
    sender: Annotated[
        str,
        Meta(min_length=3, description="Sender address of e-mail.", pattern="^[^\\s@]+@[^\\s@]+$"),
    ] = "heliometer@localhost"


class SmsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Where SMS are sent: http:// or https:// URL of a gateway that accepts "
            "JSON with to, text and id, or folder:[FOLDER]; if FOLDER is empty, "
            "outbox/sms in the data directory.",
            pattern="^(https?://|folder:)",
        ),
    ] = "folder:"
    authorization: Annotated[
        str,
        Meta(description="Authorization header that the gateway requires, such as Bearer TOKEN."),
    ] = ""


class WebhookSettings(Struct, frozen=True, forbid_unknown_fields=True):
    allow_private: Annotated[
        bool,
        Meta(
            description="Whether webhooks and apprise URLs may lead to private, loopback and "
            "link-local addresses."
        ),
    ] = False
    require_https: Annotated[bool, Meta(description="Whether webhooks must use https://.")] = False
