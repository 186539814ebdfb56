"""The tables in ClickHouse, and the SQL that reads them. It works from release 18.16 on, which has
no common table expressions, no codecs and no ``ORDER BY 1``."""

# Names, ids and numbers below come from this program and its settings, never from a request.
# ruff: noqa: S608

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from heliometer.metrics.model import Aggregation
from heliometer.storage.measurement_sql import AGGREGATES, matching

DAY_MS = 86_400_000
MONTH_MS = 30 * DAY_MS

DURABLE = {
    "fsync_after_insert": "1",
    "fsync_part_directory": "1",
    "min_rows_to_fsync_after_merge": "1",
}
"""Settings that make an insert wait for the disk (20.10 and later)."""
DEDUPLICATED = {"non_replicated_deduplication_window": "1000"}
"""Setting that makes a table without replicas remember the tokens of its last inserts (22.2 and
later)."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns, partitioning and order."""

    name: str
    columns: tuple[tuple[str, str, str], ...]
    """Name, type, and the codec for versions that have such."""
    order: str
    partition: str
    spread: str
    """The expression that decides which server of a cluster stores a row."""
    engine: str = "MergeTree"
    granularity: int = 8192
    """The index granularity: the smallest number of rows that is read."""


MEASUREMENTS = Table(
    "measurements",
    (
        ("series", "Int64", "ZSTD(1)"),
        ("ts", "Int64", "Delta, ZSTD(1)"),
        ("value", "Float64", "Delta, ZSTD(1)"),
    ),
    order="series, ts",
    # Retention drops one day at a time, and an insert makes one part for each.
    partition=f"intDiv(ts, {DAY_MS})",
    spread="abs(series)",
    granularity=2048,
)
SERIES = Table(
    "series",
    (
        ("id", "Int64", ""),
        ("project_id", "String", "ZSTD(1)"),
        ("namespace", "String", "ZSTD(1)"),
        ("dimensions", "String", "ZSTD(1)"),
        ("added", "Int64 DEFAULT toInt64(toUnixTimestamp(now())) * 1000", "Delta, ZSTD(1)"),
    ),
    order="id",
    # A query for new rows reads only the newest partitions.
    partition=f"intDiv(added, {MONTH_MS})",
    spread="abs(id)",
    engine="ReplacingMergeTree",
)
RECEIPTS = Table(
    "receipts",
    (
        ("project_id", "String", "ZSTD(1)"),
        ("key", "String", "ZSTD(1)"),
        ("fingerprint", "String", "ZSTD(1)"),
        ("at", "Int64", "Delta, ZSTD(1)"),
    ),
    order="at",
    partition=f"intDiv(at, {DAY_MS})",
    spread="abs(at)",
)
PROBE = Table(
    "probe",
    (("process", "String", ""), ("at", "Int64", "")),
    order="process",
    partition="tuple()",
    spread="abs(at)",
    engine="ReplacingMergeTree",
)
TABLES = (MEASUREMENTS, SERIES, RECEIPTS, PROBE)


def local(table: Table, cluster: str) -> str:
    """Name of the table that holds the rows, on each server."""
    return f"{table.name}_local" if cluster else table.name


def on(cluster: str) -> str:
    """Clause that makes every server of the cluster execute a statement."""
    return f" ON CLUSTER `{cluster}`" if cluster else ""


def create(
    table: Table, database: str, cluster: str, can: Set[str], *, codecs: bool, tokens: bool
) -> Iterator[str]:
    """Statements that create a table if it is missing. ``can``: the table settings that the server
    knows; ``tokens``: whether it supports insert tokens, without which it would take equal blocks
    for duplicates."""
    columns = ", ".join(
        f"{name} {kind}{f' CODEC({codec})' if codec and codecs else ''}"
        for name, kind, codec in table.columns
    )
    wanted = {"index_granularity": str(table.granularity), **DURABLE}
    if not cluster and tokens:
        wanted |= DEDUPLICATED
    settings = ", ".join(f"{k} = {v}" for k, v in wanted.items() if k in can or "index" in k)
    engine = f"{table.engine}()"
    if cluster:
        path = f"/clickhouse/tables/{{shard}}/{database}/{table.name}"
        engine = f"Replicated{table.engine}('{path}', '{{replica}}')"
    yield (
        f"CREATE TABLE IF NOT EXISTS {local(table, cluster)}{on(cluster)} ({columns}) "
        f"ENGINE = {engine} PARTITION BY {table.partition} ORDER BY ({table.order}) "
        f"SETTINGS {settings}"
    )
    if cluster:
        plain = ", ".join(f"{name} {kind}" for name, kind, _ in table.columns)
        yield (
            f"CREATE TABLE IF NOT EXISTS {table.name}{on(cluster)} ({plain}) ENGINE = "
            f"Distributed(`{cluster}`, {database}, {local(table, cluster)}, {table.spread})"
        )


def aggregate(a: Aggregation, origin_ms: int) -> str:
    """Statistics by series and period, in that order."""
    # The aliases differ from the columns' names, since ClickHouse substitutes an alias everywhere.
    statistics = "".join(f", {AGGREGATES[s]} AS a_{s}" for s in a.statistics)
    # Not with %: for a divisor below 65536, release 18.16 returns a signed 16-bit result.
    period = f"{origin_ms} + intDiv(m.ts - {origin_ms}, {a.period_ms}) * {a.period_ms}"
    return (
        f"SELECT m.series AS s, {period} AS t{statistics} "
        f"FROM measurements AS m WHERE {matching(a.series, a.start_ms, a.end_ms)} "
        "GROUP BY s, t ORDER BY s, t FORMAT Native"
    )


def first(series: Sequence[int], start_ms: int, end_ms: int) -> str:
    """The number of measurements, and the time of the first."""
    condition = matching(series, start_ms, end_ms)
    return f"SELECT count(), min(ts) FROM measurements WHERE {condition} FORMAT Native"


def read(series: Sequence[int], start_ms: int, end_ms: int) -> str:
    """Measurements by series and time, in that order."""
    return (
        f"SELECT series, ts, value FROM measurements WHERE {matching(series, start_ms, end_ms)} "
        "ORDER BY series, ts FORMAT Native"
    )


def latest(series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> str:
    """The newest measurements, newest first."""
    return (
        f"SELECT series, ts, value FROM measurements WHERE {matching(series, start_ms, end_ms)} "
        f"ORDER BY ts DESC, series LIMIT {limit} FORMAT Native"
    )


def marked(markers: Sequence[int], days: Sequence[int], source: str) -> str:
    """The markers that are stored, with the starts of their days."""
    return (
        f"SELECT DISTINCT series, ts FROM {source} WHERE series IN ({_list(markers)}) "
        f"AND ts IN ({_list([day * DAY_MS for day in days])}) FORMAT Native"
    )


def series_page(after: int, count: int) -> str:
    """So many series with greater ids, sorted by id, each once."""
    return (
        f"{_SERIES} WHERE id > {after} ORDER BY id LIMIT 1 BY id LIMIT {count} FORMAT JSONCompact"
    )


def series_since(added_ms: int) -> str:
    """The series added since then, sorted by id, each once."""
    return f"{_SERIES} WHERE added >= {added_ms} ORDER BY id LIMIT 1 BY id FORMAT JSONCompact"


def receipts_since(at_ms: int) -> str:
    """Receipts of requests accepted since then, each once."""
    return (
        "SELECT DISTINCT project_id, key, hex(fingerprint), at FROM receipts "
        f"WHERE at >= {at_ms} ORDER BY at FORMAT JSONCompact"
    )


def partitions(database: str, table: str, cluster: str) -> str:
    """Numbers of the partitions that a table has on any server."""
    source = f"cluster('{cluster}', system.parts)" if cluster else "system.parts"
    return (
        f"SELECT DISTINCT toInt64(partition) AS p FROM {source} WHERE database = '{database}' "
        f"AND table = '{table}' AND active ORDER BY p FORMAT Native"
    )


def drop_partition(table: str, cluster: str, number: int) -> str:
    """The command that removes a partition."""
    return f"ALTER TABLE {table}{on(cluster)} DROP PARTITION {number}"


def running(prefix: str, source: str) -> str:
    """Ids of the running queries that start with a prefix."""
    return (
        f"SELECT query_id FROM {source} WHERE position(query_id, '{prefix}') = 1 FORMAT JSONCompact"
    )


_SERIES = "SELECT id, project_id, namespace, dimensions FROM series"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
