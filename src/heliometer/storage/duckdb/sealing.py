"""Sealing: a day's tables become a partition, and many partitions of a day become one."""

import logging
from collections.abc import Sequence
from pathlib import Path

import duckdb

from heliometer.config import MetricSettings
from heliometer.metrics.validation import FUTURE_MS, PAST_MS
from heliometer.storage.duckdb import sql
from heliometer.storage.duckdb.partition_files import PartitionFiles, date
from heliometer.storage.duckdb.sources import DAY_MS, Partition, Sources, Table
from heliometer.storage.duckdb.writer import Writer

log = logging.getLogger(__name__)

LATE_ROWS = 1_000_000
"""With so many late measurements, a sealed day gets another partition before it closes."""
MOST_PARTS = 8
"""With more partitions than this, a day is merged before it closes."""


class Sealer:
    """Seals and merges. One thread at a time may use it."""

    def __init__(self, settings: MetricSettings, writer: Writer, files: PartitionFiles) -> None:
        self._settings = settings
        self._writer = writer
        self._files = files

    def run(self, now_ms: int, *, seal_all: bool = False) -> None:
        """Seal and merge what is due. ``seal_all``: seal all tables."""
        for day in sorted({t.day for t in self._writer.sources.tables}):
            if seal_all or self._is_due(day, now_ms):
                self._replace(day, merge=False)
        days = [p.day for p in self._writer.sources.partitions]
        for day in sorted(set(days)):
            parts = days.count(day)
            if parts > MOST_PARTS or (parts > 1 and _is_closed(day, now_ms)):
                self._replace(day, merge=True)

    def leave_out_damaged(self, suspects: Sequence[Partition]) -> None:
        """Leave out damaged ones among the partitions, so that the rest can be read."""
        current = self._writer.sources.partitions
        damaged = self._files.set_aside_damaged([p for p in suspects if p in current])
        if damaged:
            self._writer.change(lambda _: None, lambda now: now.replace((), damaged))

    def _is_due(self, day: int, now_ms: int) -> bool:
        if now_ms < (day + 1) * DAY_MS + self._settings.seal_after * 1000:
            return self._rows(day) >= self._settings.seal_rows
        is_sealed = any(p.day == day for p in self._writer.sources.partitions)
        return not is_sealed or _is_closed(day, now_ms) or self._rows(day) >= LATE_ROWS

    def _rows(self, day: int) -> int:
        tables = [t for t in self._writer.sources.tables if t.day == day]
        with self._writer.reading() as cursor:
            counts = [
                cursor.execute(f"SELECT count(*) FROM {t.name}").fetchall()  # noqa: S608
                for t in tables
            ]
        return sum(int(rows[0][0]) for rows in counts)

    def _replace(self, day: int, *, merge: bool) -> None:
        """Write a day's tables to one new partition; with ``merge``, its partitions too."""
        tables = self._close_tables(day)
        current = self._writer.sources.partitions
        old = [p for p in current if merge and p.day == day]
        if not tables and not old:
            return
        parts = [p.number for p in (*current, *self._files.damaged) if p.day == day]
        number = max([max(parts, default=0) + 1, *(t.number for t in tables)])
        sources = Sources(tuple(tables), tuple(old))

        def copy_to(path: Path) -> int:
            with self._writer.reading() as cursor:
                copied = cursor.execute(sql.sorted_copy(sources, self._files.path, str(path)))
                return int(copied.fetchall()[0][0])

        try:
            partition = self._files.write(day, number, copy_to)
        except (duckdb.Error, OSError) as error:
            log.error("day %s could not be sealed, will be tried again: %s", date(day), error)
            self.leave_out_damaged(old)
            return

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            for p in old:
                connection.execute("DELETE FROM partitions WHERE file = $1", [p.file])
            for table in tables:
                connection.execute(
                    f"UPDATE series SET last_day = greatest(coalesce(last_day, 0), {day}) "  # noqa: S608
                    f"WHERE id IN (SELECT series FROM {table.name})"
                )
                connection.execute(f"DROP TABLE {table.name}")
            connection.execute(
                "INSERT INTO partitions VALUES ($1, $2, $3, $4, $5)",
                [day, partition.file, partition.rows, partition.bytes, partition.sha256],
            )

        self._writer.change(work, lambda now: now.replace(tables, old, [partition]))
        self._files.remove(old)
        log.info(
            "sealed %s: %s measurements, %.2f bytes each",
            date(day), partition.rows, partition.bytes / max(1, partition.rows),
        )  # fmt: skip

    def _close_tables(self, day: int) -> list[Table]:
        """Close the day's tables: later measurements go to a new one."""
        tables = [t for t in self._writer.sources.tables if t.day == day]
        self._writer.change(lambda _: None, lambda sources: sources.close_tables(tables))
        return tables


def _is_closed(day: int, now_ms: int) -> bool:
    """Whether measurements of that day are too old to be accepted."""
    return (day + 1) * DAY_MS + PAST_MS + FUTURE_MS < now_ms
