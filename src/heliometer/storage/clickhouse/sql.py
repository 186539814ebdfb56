"""The tables in ClickHouse, and the SQL that they are read with.

It works from release 18.16 on: no common table expressions, no codecs and no ``ORDER BY 1`` there.
"""

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
"""What makes an insert wait for the disk, where the server's version can (20.10 and later)."""
DEDUPLICATED = {"non_replicated_deduplication_window": "1000"}
"""What makes a table without replicas know tokens of its last inserts (22.2 and later)."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns, and how its rows are divided and ordered."""

    name: str
    columns: tuple[tuple[str, str, str], ...]
    """Name, type, and the codec for versions that have such."""
    order: str
    partition: str
    spread: str
    """Says to which server of a cluster a row goes."""
    engine: str = "MergeTree"
    granularity: int = 8192
    """Rows that are the least to be read."""


MEASUREMENTS = Table(
    "measurements",
    (
        ("series", "Int64", "ZSTD(1)"),
        ("ts", "Int64", "Delta, ZSTD(1)"),
        ("value", "Float64", "Delta, ZSTD(1)"),
    ),
    order="series, ts",
    # A day at a time is what retention drops, and an insert makes one part of.
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
    # Whoever asks for what is new reads the newest partitions only.
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
    """Name of the table that has the rows themselves, on each server."""
    return f"{table.name}_local" if cluster else table.name


def on(cluster: str) -> str:
    """Clause that makes every server of the cluster do it."""
    return f" ON CLUSTER `{cluster}`" if cluster else ""


def create(
    table: Table, database: str, cluster: str, can: Set[str], *, codecs: bool, tokens: bool
) -> Iterator[str]:
    """Statements that make a table unless it is there.

    ``can``: the settings of tables that the server knows; ``tokens``: whether it takes those of
    inserts. Without them it would take equal blocks for one.
    """
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
    # The names differ from the columns': here a name means what it stands for, wherever it is.
    statistics = "".join(f", {AGGREGATES[s]} AS a_{s}" for s in a.statistics)
    # Not with %: of a divisor below 65536, release 18.16 returns only 16 bits, with a sign.
    period = f"{origin_ms} + intDiv(m.ts - {origin_ms}, {a.period_ms}) * {a.period_ms}"
    return (
        f"SELECT m.series AS s, {period} AS t{statistics} "
        f"FROM measurements AS m WHERE {matching(a.series, a.start_ms, a.end_ms)} "
        "GROUP BY s, t ORDER BY s, t FORMAT Native"
    )


def first(series: Sequence[int], start_ms: int, end_ms: int) -> str:
    """How many measurements there are, and when the first was."""
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
    """Which markers are there, and for the starts of which days."""
    return (
        f"SELECT DISTINCT series, ts FROM {source} WHERE series IN ({_list(markers)}) "
        f"AND ts IN ({_list([day * DAY_MS for day in days])}) FORMAT Native"
    )


def series_page(after: int, count: int) -> str:
    """So many series with greater ids, by id, each once."""
    return (
        f"{_SERIES} WHERE id > {after} ORDER BY id LIMIT 1 BY id LIMIT {count} FORMAT JSONCompact"
    )


def series_since(added_ms: int) -> str:
    """The series that were added since then, by id, each once."""
    return f"{_SERIES} WHERE added >= {added_ms} ORDER BY id LIMIT 1 BY id FORMAT JSONCompact"


def receipts_since(at_ms: int) -> str:
    """Receipts of requests taken since then, each once."""
    return (
        "SELECT DISTINCT project_id, key, hex(fingerprint), at FROM receipts "
        f"WHERE at >= {at_ms} ORDER BY at FORMAT JSONCompact"
    )


def partitions(database: str, table: str, cluster: str) -> str:
    """Numbers of the partitions that a table has anywhere."""
    source = f"cluster('{cluster}', system.parts)" if cluster else "system.parts"
    return (
        f"SELECT DISTINCT toInt64(partition) AS p FROM {source} WHERE database = '{database}' "
        f"AND table = '{table}' AND active ORDER BY p FORMAT Native"
    )


def drop_partition(table: str, cluster: str, number: int) -> str:
    """The command that removes a partition."""
    return f"ALTER TABLE {table}{on(cluster)} DROP PARTITION {number}"


def running(prefix: str, source: str) -> str:
    """Ids of the queries under way that begin with a prefix."""
    return (
        f"SELECT query_id FROM {source} WHERE position(query_id, '{prefix}') = 1 FORMAT JSONCompact"
    )


_SERIES = "SELECT id, project_id, namespace, dimensions FROM series"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
