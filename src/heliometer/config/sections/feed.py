"""The tenants' AMQP feed."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class AmqpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    backend: Annotated[
        Literal["builtin", "rabbitmq"],
        Meta(description="What serves the feed: the built-in AMQP listener, or RabbitMQ."),
    ] = "builtin"
    listen: Annotated[
        str,
        Meta(description="Address and port of the built-in AMQP listener; empty: off."),
    ] = "127.0.0.1:5672"
    url: Annotated[
        str,
        Meta(
            description="RabbitMQ and its administrator's credentials: "
            "amqp://user:password@host:5672.",
            pattern="^($|amqps?://)",
        ),
    ] = ""
    management_url: Annotated[
        str,
        Meta(
            description="URL of RabbitMQ's management API; empty: port 15672 on the host of "
            "amqp.url.",
            pattern="^($|https?://)",
        ),
    ] = ""
    public_url: Annotated[
        str,
        Meta(
            description="URL that clients are told to connect to, amqp://host:port; empty: the "
            "address of the listener, or of RabbitMQ.",
            pattern="^($|amqps?://)",
        ),
    ] = ""
    tls_cert: Annotated[
        str,
        Meta(description="PEM file of the AMQP listener's certificate chain; enables TLS."),
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file of that certificate's private key.")] = ""
    heartbeat: Annotated[
        int,
        Meta(
            ge=0,
            le=3600,
            description="Seconds between heartbeats, as suggested to clients; 0: off.",
        ),
    ] = 60
    connections: Annotated[
        int, Meta(ge=1, description="AMQP clients that may be connected at the same time.")
    ] = 1_000
    connections_per_project: Annotated[
        int,
        Meta(
            ge=1, description="AMQP clients of one project that may be connected at the same time."
        ),
    ] = 100
    queue_messages: Annotated[
        int,
        Meta(
            ge=1000,
            description="Messages that may wait for a project's consumers; beyond that, the "
            "oldest are dropped and counted.",
        ),
    ] = 1_000_000
    queue_age: Annotated[
        int,
        Meta(
            ge=60,
            le=14 * 86_400,
            description="Seconds for which messages wait before they are dropped and counted.",
        ),
    ] = 7 * 86_400
