"""Copies what can be read of a database: table by table, or in pieces where one is damaged."""

# Names in the SQL below come from this program alone, never from a request.
# ruff: noqa: S608

from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from heliometer.storage.duckdb import catalog, sql

PIECE = 2048
"""Rows that DuckDB reads at once: what one damaged block costs is a multiple of it."""


@dataclass(slots=True)
class Salvaged:
    """What was copied of a database's tables, in rows."""

    tables: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    """Rows that could not be read, of the tables that are damaged."""


def salvage(source: Path, target: duckdb.DuckDBPyConnection) -> Salvaged:
    """Copy the tables of a database into ``target``, which has the empty ones. Raises
    ``duckdb.Error`` when the source cannot be opened at all, or has no such tables."""
    # By itself first: an error while the log is read would put an end to ``target`` too.
    with duckdb.connect(str(source)) as alone:
        alone.execute("CHECKPOINT")
    target.execute(f"ATTACH {sql.quoted(str(source))} AS damaged")
    try:
        names = [
            name
            for (name,) in target.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'damaged'"
            ).fetchall()
        ]
        if not {"series", "partitions", "format"} <= set(names):
            raise duckdb.CatalogException(f"{source} has not the tables of a store")
        found = Salvaged()
        for name in sorted(names):
            if name.startswith("recent_"):
                sql.create_table(target, name)
            elif name not in catalog.TABLES:
                continue
            if name not in ("format", "probe"):
                _copy(target, name, found)
        return found
    finally:
        target.execute("DETACH damaged")


def _copy(target: duckdb.DuckDBPyConnection, name: str, found: Salvaged) -> None:
    # By name: a table of a former version may have fewer columns.
    insert = f"INSERT INTO {name} BY NAME SELECT * FROM damaged.{name}"
    try:
        target.execute(insert)
        found.tables[name] = _count(target, f"SELECT count(*) FROM {name}")
        return
    except duckdb.Error:
        found.lost[name] = 0
    rows = _count(target, f"SELECT estimated_size FROM duckdb_tables() WHERE database_name = "
                  f"'damaged' AND table_name = {sql.quoted(name)}")  # fmt: skip
    for first in range(0, rows, PIECE):
        try:
            target.execute(f"{insert} WHERE rowid BETWEEN {first} AND {first + PIECE - 1}")
        except duckdb.Error:
            found.lost[name] += min(PIECE, rows - first)
    found.tables[name] = _count(target, f"SELECT count(*) FROM {name}")


def _count(connection: duckdb.DuckDBPyConnection, text: str) -> int:
    rows = connection.execute(text).fetchall()
    return int(rows[0][0]) if rows else 0
