"""The SQL of the measurement tables. No name or number in it comes from a request."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from heliometer.metrics.model import Aggregation
from heliometer.storage.duckdb.sources import Sources
from heliometer.storage.measurement_sql import AGGREGATES, matching

# Names, ids and numbers below come from this program alone, never from a request.
# ruff: noqa: S608

PathOf = Callable[[str], str]
LISTED = 500
"""Parsing the ids of more series takes longer than looking for them, and a KiB for each."""


def fetch(
    connection: duckdb.DuckDBPyConnection, text: str, series: Sequence[int]
) -> dict[str, NDArray[Any]]:
    """The columns that a query of some series finds."""
    wanted = {"id": np.asarray(series, dtype=np.int64)}
    found: dict[str, NDArray[Any]] = connection.execute(text).fetchnumpy()
    del wanted  # used above: DuckDB finds it by its name
    return found


def create_table(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Create a table of recent measurements."""
    connection.execute(f"CREATE TABLE {name} (series BIGINT, ts BIGINT, value DOUBLE)")


def insert(
    connection: duckdb.DuckDBPyConnection, table: str, arrays: Mapping[str, NDArray[np.generic]]
) -> None:
    """Append rows given as arrays."""
    rows = dict(arrays)
    connection.execute(f"INSERT INTO {table} SELECT series, ts, value FROM rows")
    del rows  # used above: DuckDB finds it by its name


def aggregate(aggregation: Aggregation, sources: Sources, path_of: PathOf) -> str:
    """Statistics by series and period, in that order."""
    a = aggregation
    statistics = ", ".join(f"{AGGREGATES[s]} AS {s}" for s in a.statistics)
    origin = "o.ts" if a.origin_ms is None else str(a.origin_ms)
    start = f"m.ts - (m.ts - {origin}) % {a.period_ms}"
    rows = _rows(a.series, a.start_ms, a.end_ms, sources, path_of)
    first = ", (SELECT min(ts) AS ts FROM m) AS o" if a.origin_ms is None else ""
    return (
        f"WITH m AS ({rows}) SELECT m.series, {start} AS ts, {statistics} "
        f"FROM m{first} GROUP BY m.series, {start} ORDER BY 1, 2"
    )


def read(
    series: Sequence[int], start_ms: int, end_ms: int, sources: Sources, path_of: PathOf
) -> str:
    """Measurements by series and time, in that order."""
    return f"{_rows(series, start_ms, end_ms, sources, path_of)} ORDER BY series, ts"


def latest(
    series: Sequence[int],
    start_ms: int,
    end_ms: int,
    limit: int,
    sources: Sources,
    path_of: PathOf,
) -> str:
    """The newest measurements, newest first."""
    rows = _rows(series, start_ms, end_ms, sources, path_of)
    return f"SELECT * FROM ({rows}) ORDER BY ts DESC, series LIMIT {limit}"


def sorted_copy(rows: str, target: str) -> str:
    """Write the rows of a query to one Parquet file, sorted by (series, timestamp).

    Row groups half DuckDB's default: a query of one series decodes half as much, for 5 % more
    bytes. Format V2 brings delta coding of timestamps and dictionaries or byte streams of values.
    """
    return (
        f"COPY ({rows} ORDER BY series, ts) TO {quoted(target)} "
        "(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, ROW_GROUP_SIZE 61440)"
    )


def everything(sources: Sources, path_of: PathOf) -> str:
    """All measurements in the sources, in any order."""
    return _union(sources, path_of, "true")


def _rows(
    series: Sequence[int], start_ms: int, end_ms: int, sources: Sources, path_of: PathOf
) -> str:
    if not series:
        return _union(Sources(), path_of, "true")
    listed = "SELECT id FROM wanted" if len(series) > LISTED else ""
    return _union(sources, path_of, matching(series, start_ms, end_ms, listed))


def _union(sources: Sources, path_of: PathOf, condition: str) -> str:
    parts = [f"SELECT series, ts, value FROM {t.name} WHERE {condition}" for t in sources.tables]
    if sources.partitions:
        files = ", ".join(quoted(path_of(p.file)) for p in sources.partitions)
        parts.append(f"SELECT series, ts, value FROM read_parquet([{files}]) WHERE {condition}")
    if not parts:
        return "SELECT 0::BIGINT AS series, 0::BIGINT AS ts, 0.0::DOUBLE AS value WHERE false"
    return " UNION ALL ".join(parts)


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
