"""The database of the embedded store: its schema, series and receipts, and the table of partitions,
which decides which files count."""

# Names in the SQL below come from this program alone, never from a request.
# ruff: noqa: S608

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np

from heliometer.metrics.model import Series
from heliometer.metrics.receipts import Receipt
from heliometer.storage.duckdb.sources import Partition, Sources, Table

FORMAT = 1
"""Version of the layout. A database with a newer one is not opened."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS format (version INTEGER);
CREATE TABLE IF NOT EXISTS probe (at_ms BIGINT);
CREATE TABLE IF NOT EXISTS series (
  id BIGINT, project_id VARCHAR, namespace VARCHAR, dimensions VARCHAR, last_day INTEGER);
CREATE TABLE IF NOT EXISTS receipts (
  project_id VARCHAR, key VARCHAR, fingerprint BLOB, at_ms BIGINT);
CREATE TABLE IF NOT EXISTS partitions (
  day INTEGER, file VARCHAR, rows BIGINT, bytes BIGINT, sha256 VARCHAR);
CREATE TABLE IF NOT EXISTS contents (file VARCHAR, content BLOB);
CREATE TABLE IF NOT EXISTS unused_files (file VARCHAR);
"""


TABLES = ("format", "probe", "series", "receipts", "partitions", "contents", "unused_files")


class WrongFormat(Exception):
    """The files were written by a newer version of heliometer."""


def open_database(path: Path, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """Open or create the database. Raises WrongFormat or ``duckdb.Error``."""
    connection = duckdb.connect(
        str(path),
        config={
            "memory_limit": f"{memory_bytes >> 20}MiB",
            "temp_directory": str(path.parent / "tmp"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        connection.execute("SET parquet_metadata_cache = true")
        # Checkpoints are made by the writer: the mark of the log has to know of each.
        connection.execute("SET checkpoint_threshold = '1TB'")
        connection.execute(_SCHEMA)
        found = connection.execute("SELECT max(version) FROM format").fetchone()
        version = found[0] if found else None
        if version is None:
            connection.execute("INSERT INTO format VALUES ($1)", [FORMAT])
            connection.execute("CHECKPOINT")
        elif version > FORMAT:
            raise WrongFormat(
                f"{path} has format {version}, written by a newer version of heliometer; "
                f"this one reads formats up to {FORMAT}"
            )
        for table in TABLES:  # what is damaged here must not show later
            connection.execute(f"SELECT bit_xor(hash(t)) FROM {table} AS t").fetchall()
        return connection
    except BaseException:
        connection.close()
        raise


def read_sources(connection: duckdb.DuckDBPyConnection) -> Sources:
    """The tables and partitions that the database names."""
    names = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'recent\\_%' ESCAPE '\\'"
    ).fetchall()
    tables = []
    for (name,) in names:
        _, day, number = name.split("_")
        tables.append(Table(int(day), int(number)))
    partitions = connection.execute(
        "SELECT day, file, rows, bytes, sha256 FROM partitions ORDER BY day, file"
    ).fetchall()
    return Sources(
        tuple(sorted(tables, key=lambda t: (t.day, t.number))),
        tuple(Partition(*row) for row in partitions),
    )


def insert_partition(
    connection: duckdb.DuckDBPyConnection, partition: Partition, content: bytes | None
) -> None:
    """Add a partition, and what its file says of itself, within the caller's transaction."""
    p = partition
    connection.execute(
        "INSERT INTO partitions VALUES ($1, $2, $3, $4, $5)",
        [p.day, p.file, p.rows, p.bytes, p.sha256],
    )
    if content is not None:
        connection.execute("INSERT INTO contents VALUES ($1, $2)", [p.file, content])


def delete_partitions(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Remove partitions, within the caller's transaction."""
    for file in files:
        connection.execute("DELETE FROM partitions WHERE file = $1", [file])
        connection.execute("DELETE FROM contents WHERE file = $1", [file])


def read_contents(connection: duckdb.DuckDBPyConnection) -> dict[str, bytes]:
    """What the files of partitions say of themselves, by file."""
    return dict(connection.execute("SELECT file, content FROM contents").fetchall())


def read_unused(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The files that the catalogue has replaced, or began and did not finish: only these may be
    removed."""
    return {file for (file,) in connection.execute("SELECT file FROM unused_files").fetchall()}


def mark_unused(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Note that files are to be removed, within the caller's transaction."""
    for file in files:
        connection.execute("INSERT INTO unused_files VALUES ($1)", [file])


def forget_unused(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Note that files are in use, or gone, within the caller's transaction."""
    for file in files:
        connection.execute("DELETE FROM unused_files WHERE file = $1", [file])


def insert_series(connection: duckdb.DuckDBPyConnection, series: Sequence[Series]) -> None:
    """Add series, within the caller's transaction."""
    new = {
        "id": np.array([s.id for s in series], dtype=np.int64),
        "project_id": np.array([s.project_id for s in series], dtype=object),
        "namespace": np.array([s.namespace for s in series], dtype=object),
        "dimensions": np.array(
            [json.dumps(s.dimensions, ensure_ascii=False) for s in series], dtype=object
        ),
    }
    connection.execute(
        "INSERT INTO series SELECT id, project_id, namespace, dimensions, NULL FROM new"
    )
    del new  # used above: DuckDB finds it by its name


def read_series(connection: duckdb.DuckDBPyConnection) -> list[Series]:
    """All series, sorted by id."""
    rows = connection.execute(
        "SELECT id, project_id, namespace, dimensions FROM series ORDER BY id"
    ).fetchall()
    return [Series(i, p, n, tuple((k, v) for k, v in json.loads(d))) for i, p, n, d in rows]


def forget_idle_series(
    connection: duckdb.DuckDBPyConnection, sources: Sources, before_day: int
) -> int:
    """Remove series that have no measurements left; return how many."""
    held = "".join(f" AND id NOT IN (SELECT series FROM {t.name})" for t in sources.tables)
    dropped = connection.execute(
        f"DELETE FROM series WHERE last_day < $1{held} RETURNING id",
        [before_day],
    ).fetchall()
    return len(dropped)


def insert_receipts(connection: duckdb.DuckDBPyConnection, receipts: Sequence[Receipt]) -> None:
    """Add receipts, within the caller's transaction."""
    columns = [[r.project_id, r.encoded_key, r.fingerprint, r.at_ms] for r in receipts]
    # A statement for each would take ten times as long.
    connection.execute(
        "INSERT INTO receipts SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), "
        "unnest($3::BLOB[]), unnest($4::BIGINT[])",
        [list(column) for column in zip(*columns, strict=True)],
    )


def read_receipts(connection: duckdb.DuckDBPyConnection, since_ms: int) -> list[Receipt]:
    """The receipts of requests accepted since then."""
    rows = connection.execute(
        "SELECT project_id, key, fingerprint, at_ms FROM receipts WHERE at_ms >= $1", [since_ms]
    ).fetchall()
    return [Receipt.decode(*row) for row in rows]
