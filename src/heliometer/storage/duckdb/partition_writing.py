"""Writing a sealed partition: the sorted measurements, and what the file says of itself."""

from pathlib import Path

import duckdb

from heliometer.storage.duckdb import content, sql
from heliometer.storage.duckdb.content import Content, SeriesEntry


def write_partition(
    cursor: duckdb.DuckDBPyConnection, rows: str, target: Path, about: Content
) -> Content:
    """Write the rows of a query (series, ts, value), sorted, as a partition; ``about`` lacks what
    is found on the way. Raises ``duckdb.Error``, OSError, NoContent."""
    cursor.execute(sql.sorted_copy(rows, str(target)))
    name = sql.quoted(str(target))
    groups = cursor.execute(
        "SELECT min(least(coalesce(dictionary_page_offset, data_page_offset), data_page_offset)),"  # noqa: S608
        f" any_value(row_group_num_rows) FROM parquet_metadata({name})"
        " GROUP BY row_group_id ORDER BY row_group_id"
    ).fetchall()
    series = cursor.execute(
        "SELECT id, project_id, namespace, dimensions FROM series"  # noqa: S608
        f" WHERE id IN (SELECT DISTINCT series FROM read_parquet({name})) ORDER BY id"
    ).fetchall()
    return content.add(
        target,
        [(int(start), int(count)) for start, count in groups],
        [SeriesEntry(*row) for row in series],
        about,
    )
