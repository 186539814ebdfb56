"""Retention: removes old days, their series, and old receipts."""

import logging

import duckdb

from heliometer.metrics.receipts import PUSH_LIFE_MS, RECEIPT_LIFE_MS, ReceiptKind
from heliometer.storage.duckdb import catalog
from heliometer.storage.duckdb.partition_files import PartitionFiles
from heliometer.storage.duckdb.sealing import remove_files
from heliometer.storage.duckdb.sources import DAY_MS
from heliometer.storage.duckdb.writer import Writer

log = logging.getLogger(__name__)


def delete_before(writer: Writer, files: PartitionFiles, timestamp_ms: int) -> None:
    """Remove the days that end at or before ``timestamp_ms``, and their files."""
    last = timestamp_ms // DAY_MS
    tables = [t for t in writer.sources.tables if t.day < last]
    partitions = [p for p in writer.sources.partitions if p.day < last]
    if not tables and not partitions:
        return

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        for table in tables:
            connection.execute(f"DROP TABLE {table.name}")
        catalog.delete_partitions(connection, [p.file for p in partitions])
        connection.execute("DELETE FROM partitions WHERE day < $1", [last])  # damaged ones too
        catalog.mark_unused(connection, [p.file for p in partitions])

    writer.change(work, lambda sources: sources.replace(tables, partitions))
    remove_files(writer, files, partitions)
    log.info(
        "retention removed %s days of measurements",
        len({t.day for t in tables} | {p.day for p in partitions}),
    )


def forget_receipts(writer: Writer, now_ms: int) -> None:
    """Remove the receipts that have expired."""
    pushed = ReceiptKind.PUSH.value

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            f"DELETE FROM receipts WHERE at_ms < {now_ms - RECEIPT_LIFE_MS} OR "  # noqa: S608
            f"(at_ms < {now_ms - PUSH_LIFE_MS} AND starts_with(key, '{pushed}'))"
        )

    writer.change(work, lambda sources: sources)
