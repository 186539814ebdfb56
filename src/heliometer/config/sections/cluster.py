"""What several processes share."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class BusSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Hand-over between processes: amqp://user:password@host:5672/vhost of a "
            "RabbitMQ; empty: one process does everything.",
            pattern="^(|inproc:|amqps?://.+)$",
        ),
    ] = ""
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Parts that projects are divided into; each is stored and evaluated by one "
            "process at a time. The same in all processes.",
        ),
    ] = 8
    queue_type: Annotated[
        Literal["quorum", "classic"],
        Meta(description="Kind of RabbitMQ's queues; quorum is replicated where it is a cluster."),
    ] = "quorum"
    queue_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            description="Bytes that wait in RabbitMQ for one part's process before posts get a "
            "503.",
        ),
    ] = 512 << 20
    settle_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="Milliseconds that a post waits to be readable, once RabbitMQ has it "
            "safely; 0: it does not.",
        ),
    ] = 1000
