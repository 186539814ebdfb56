"""Where resources and measurements are kept."""

from typing import Annotated

from msgspec import Meta, Struct


class ResourceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Database of projects, users, alarms and the like: "
            "postgresql://user:password@host/database, or sqlite:///FILE; empty: "
            "resources.sqlite in the data directory.",
            pattern="^($|sqlite|postgresql)",
        ),
    ] = ""
    connections: Annotated[
        int,
        Meta(ge=2, le=1000, description="Connections to PostgreSQL that each process keeps open."),
    ] = 10


class MetricSettings(Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[
        str,
        Meta(
            description="Store of the measurements: clickhouse://user:password@host:8123/database "
            "(its HTTP interface; clickhouses:// with TLS); empty: DuckDB in the data directory.",
            pattern="^($|clickhouses?://)",
        ),
    ] = ""
    cluster: Annotated[
        str,
        Meta(
            description="Name of the ClickHouse cluster over which measurements are distributed "
            "and replicated; empty: a single server.",
            pattern="^[A-Za-z0-9_-]{0,64}$",
        ),
    ] = ""
    insert_quorum: Annotated[
        int,
        Meta(
            ge=0,
            le=16,
            description="Replicas that must have received measurements before they count as "
            "stored; 0: one.",
        ),
    ] = 0
    retention_days: Annotated[
        int, Meta(ge=15, le=36500, description="Days for which measurements are kept.")
    ] = 45
    seal_rows: Annotated[
        int,
        Meta(
            ge=1000,
            description="Measurements of one day that are kept in arrival order before they are "
            "sealed into a sorted partition without waiting for the end of the day.",
        ),
    ] = 20_000_000
    seal_after: Annotated[
        int, Meta(ge=0, description="Seconds after the end of a day at which it is sealed.")
    ] = 900
    memory_bytes: Annotated[
        int, Meta(ge=64 << 20, description="Memory that the embedded store may use, in bytes.")
    ] = 1 << 30
    min_free_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Free space on the data directory's disk below which writes are refused "
            "(503), in bytes.",
        ),
    ] = 256 << 20
