"""Sealing: a day's tables become a partition, and many partitions of a day become one."""

import logging
from collections.abc import Sequence
from pathlib import Path

import duckdb

from heliometer.config import MetricSettings
from heliometer.metrics.validation import FUTURE_MS, PAST_MS
from heliometer.storage.duckdb import catalog, sql
from heliometer.storage.duckdb.content import Content, NoContent
from heliometer.storage.duckdb.partition_files import PartitionFiles, date, file_name
from heliometer.storage.duckdb.partition_writing import write_partition
from heliometer.storage.duckdb.sources import DAY_MS, Partition, Sources, Table
from heliometer.storage.duckdb.writer import Writer

log = logging.getLogger(__name__)

LATE_ROWS = 1_000_000
"""With so many late measurements, a sealed day gets another partition before it closes."""
MOST_PARTS = 8
"""With more partitions than this, a day is merged before it closes."""


_SIGNS_OF_DAMAGE = (
    "Corrupt database file",
    "Corrupt WAL file",
    "not a valid DuckDB database file",
    "Could not read enough bytes",
    "WAL does not match database file",
    "Failure while replaying WAL file",
    "Serialization Error",
)
"""What DuckDB says of a damaged file."""


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

    def leave_out_damaged(
        self, partitions: Sequence[Partition], tables: Sequence[Table] = ()
    ) -> None:
        """Leave out what is damaged among these, so that the rest can be read."""
        now = self._writer.sources
        damaged = self._files.set_aside_damaged([p for p in partitions if p in now.partitions])
        broken = [t for t in tables if t in now.tables and not self._is_readable(t)]
        for table in broken:
            log.error(
                "the measurements of %s that are not sealed are damaged in recent.duckdb (table "
                "%s), and left out; heliometer repair shows what can be saved",
                date(table.day), table.name,
            )  # fmt: skip
        self._writer.damaged_tables.update(broken)
        if damaged or broken:
            self._writer.change(lambda _: None, lambda now: now.replace(broken, damaged))

    def _is_readable(self, table: Table) -> bool:
        try:
            with self._writer.reading() as cursor:
                cursor.execute(f"SELECT sum(series), sum(ts), sum(value) FROM {table.name}")  # noqa: S608
                cursor.fetchall()
        except duckdb.Error as error:
            return not is_damage(error)
        return True

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
        if self._files.find_damaged(old):  # what is damaged must not be sealed as if it were whole
            self.leave_out_damaged(old)
            return
        parts = [p.number for p in (*current, *self._files.damaged) if p.day == day]
        number = max([max(parts, default=0) + 1, *(t.number for t in tables)])
        rows = sql.everything(Sources(tuple(tables), tuple(old)), self._files.path)
        about = Content(
            day=day,
            file=file_name(day, number),
            tables=tuple(t.name for t in tables),
            replaces=tuple(p.file for p in old),
        )

        def copy_to(path: Path) -> Content:
            with self._writer.reading() as cursor:
                return write_partition(cursor, rows, path, about)

        # Whatever interrupts us, the next start knows the file.
        self._writer.change(
            lambda connection: catalog.mark_unused(connection, [about.file]), lambda now: now
        )
        try:
            partition, packed = self._files.write(day, number, copy_to)
        except (duckdb.Error, OSError, NoContent) as error:
            log.error("day %s could not be sealed, will be tried again: %s", date(day), error)
            self.leave_out_damaged(old, tables)
            return

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            catalog.delete_partitions(connection, [p.file for p in old])
            catalog.forget_unused(connection, [partition.file])
            catalog.mark_unused(connection, [p.file for p in old])
            for table in tables:
                connection.execute(
                    f"UPDATE series SET last_day = greatest(coalesce(last_day, 0), {day}) "  # noqa: S608
                    f"WHERE id IN (SELECT series FROM {table.name})"
                )
                connection.execute(f"DROP TABLE {table.name}")
            catalog.insert_partition(connection, partition, packed)

        self._writer.change(work, lambda now: now.replace(tables, old, [partition]))
        remove_files(self._writer, self._files, old)
        log.info(
            "sealed %s: %s measurements, %.2f bytes each",
            date(day), partition.rows, partition.bytes / max(1, partition.rows),
        )  # fmt: skip

    def _close_tables(self, day: int) -> list[Table]:
        """Close the day's tables: later measurements go to a new one."""
        tables = [t for t in self._writer.sources.tables if t.day == day]
        self._writer.change(lambda _: None, lambda sources: sources.close_tables(tables))
        return tables


def remove_files(writer: Writer, files: PartitionFiles, replaced: Sequence[Partition]) -> None:
    """Remove the files of partitions that the catalogue has marked as unused."""
    if replaced:
        files.remove(replaced)
        names = [p.file for p in replaced]
        writer.change(lambda connection: catalog.forget_unused(connection, names), lambda now: now)


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB found its own file damaged."""
    return any(sign in str(error) for sign in _SIGNS_OF_DAMAGE)


def _is_closed(day: int, now_ms: int) -> bool:
    """Whether measurements of that day are too old to be accepted."""
    return (day + 1) * DAY_MS + PAST_MS + FUTURE_MS < now_ms
