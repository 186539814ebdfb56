"""What several processes share."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ClusterSettings(Struct, frozen=True, forbid_unknown_fields=True):
    expected: Annotated[
        str,
        Meta(
            description="How many processes should have each role, such as api=2,evaluator=2; "
            "health is degraded, and the doctor warns, when there are fewer. A role that is not "
            "named needs one process, the collector none."
        ),
    ] = ""


class BusSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="RabbitMQ that connects the processes of a cluster: "
            "amqp://user:password@host:5672/vhost; empty: a single process does "
            "everything.",
            pattern="^(|inproc:|amqps?://.+)$",
        ),
    ] = ""
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Number of shards that projects are divided into; each is stored and "
            "evaluated by one process at a time. Must be the same in all processes.",
        ),
    ] = 8
    queue_type: Annotated[
        Literal["quorum", "classic"],
        Meta(
            description="Type of RabbitMQ's queues; quorum queues are replicated if RabbitMQ is a "
            "cluster."
        ),
    ] = "quorum"
    queue_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            description="Bytes that may wait in RabbitMQ for the owner of one shard before posts "
            "get 503.",
        ),
    ] = 512 << 20
    settle_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="Milliseconds for which a post waits to become readable, once RabbitMQ "
            "has stored it safely; 0: it does not wait.",
        ),
    ] = 1000
