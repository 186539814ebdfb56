"""Upkeep of the embedded store: sealing days, merging, retention, checking and copying.

All of it runs in one thread, so that no two of these meet.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb

from heliometer.config import MetricSettings
from heliometer.metrics.receipts import PUSH_LIFE_MS, RECEIPT_LIFE_MS, ReceiptKind
from heliometer.metrics.validation import FUTURE_MS, PAST_MS
from heliometer.storage.duckdb import sql
from heliometer.storage.duckdb.catalog import DAY_MS, Partition, Sources, Table

T = TypeVar("T")
log = logging.getLogger(__name__)

LATE_ROWS = 1_000_000
"""Late measurements of a sealed day that are worth a partition of their own before the day
closes."""
MOST_PARTS = 8
"""Partitions of one day beyond which they are merged without waiting for the day to close."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent copy of the database, and the partitions that belong to it."""

    database: Path
    partitions: Sequence[Path]
    series: int
    measurements: int


class _Store(Protocol):
    """What upkeep needs of the store."""

    @property
    def sources(self) -> Sources: ...
    def write(
        self,
        work: Callable[[duckdb.DuckDBPyConnection], None],
        then: Callable[[Sources], Sources],
    ) -> None: ...
    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]: ...
    def free_bytes(self) -> int: ...


class Maintenance:
    """Upkeep of the store in ``folder``."""

    def __init__(self, folder: Path, settings: MetricSettings, store: _Store) -> None:
        self.partitions = folder / "partitions"
        self._folder = folder
        self._settings = settings
        self._store = store
        self.damaged: set[Partition] = set()
        """Partitions that are left out."""

    def check_files(self, sources: Sources) -> Sources:
        """After opening: remove files that nobody names; set damaged ones aside."""
        for left in self._folder.glob("backup-*"):
            shutil.rmtree(left, ignore_errors=True)  # of a backup that was interrupted
        named = {p.file: p for p in sources.partitions}
        for path in self.partitions.iterdir():
            if path.suffix in (".parquet", ".tmp") and path.name not in named:
                path.unlink()  # an interrupted sealing left it, or a merge replaced it
        whole = []
        for partition in sources.partitions:
            path = self.partitions / partition.file
            size = path.stat().st_size if path.exists() else -1
            if size == partition.bytes:
                whole.append(partition)
                continue
            log.error(
                "partition %s is damaged (%s bytes instead of %s): its measurements are left out",
                path, max(size, 0), partition.bytes,
            )  # fmt: skip
            self.damaged.add(partition)
            if size >= 0:
                path.rename(path.with_suffix(".damaged"))
        return Sources(sources.tables, tuple(whole))

    def run(self, now_ms: int, *, seal_all: bool = False) -> None:
        """Seal and merge what is due, and forget receipts that nobody can ask for any more."""
        for day in sorted({t.day for t in self._store.sources.tables}):
            if seal_all or self._due(day, now_ms):
                self._replace(day, merge=False)
        days = [p.day for p in self._store.sources.partitions]
        for day in sorted(set(days)):
            parts = days.count(day)
            if parts > MOST_PARTS or (parts > 1 and _closed(day, now_ms)):
                self._replace(day, merge=True)
        pushed = ReceiptKind.PUSH.value
        self._store.write(
            lambda connection: _execute(
                connection,
                f"DELETE FROM receipts WHERE at_ms < {now_ms - RECEIPT_LIFE_MS} OR "  # noqa: S608
                f"(at_ms < {now_ms - PUSH_LIFE_MS} AND starts_with(key, '{pushed}'))",
            ),
            lambda sources: sources,
        )

    def delete_before(self, timestamp_ms: int) -> None:
        """Forget the days that end at or before ``timestamp_ms``; their files give back space."""
        last = timestamp_ms // DAY_MS
        tables = [t for t in self._store.sources.tables if t.day < last]
        gone = [p for p in self._store.sources.partitions if p.day < last]
        if not tables and not gone:
            return

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            for table in tables:
                connection.execute(f"DROP TABLE {table.name}")
            connection.execute("DELETE FROM partitions WHERE day < $1", [last])

        self._store.write(work, lambda sources: sources.replace(tables, gone))
        self._unlink(gone)
        log.info(
            "retention removed %s days of measurements",
            len({t.day for t in tables} | {p.day for p in gone}),
        )

    def verify(self) -> list[str]:
        """What is wrong with the partitions, a sentence each."""
        wrong = []
        for partition in self._store.sources.partitions:
            path = self.partitions / partition.file
            try:
                if _sha256(path) != partition.sha256:
                    wrong.append(f"{path} is damaged: its checksum is not the recorded one")
            except OSError as error:
                wrong.append(f"{path} cannot be read: {error.strerror}")
        wrong += [f"{path} was set aside as damaged" for path in self.partitions.glob("*.damaged")]
        return wrong

    def set_aside_damaged(self, suspects: Sequence[Partition]) -> None:
        """Leave out those whose content is not what was written, so that the rest can be read;
        keep their files."""
        damaged = []
        for partition in suspects:
            if partition not in self._store.sources.partitions:
                continue
            path = self.partitions / partition.file
            try:
                if _sha256(path) == partition.sha256:
                    continue
                path.rename(path.with_suffix(".damaged"))
            except FileNotFoundError:
                pass
            except OSError as error:
                log.error("partition %s cannot be read: %s", path, error)
                continue
            log.error("partition %s is damaged: its measurements are left out", path)
            damaged.append(partition)
        self.damaged.update(damaged)
        if damaged:
            self._store.write(lambda _: None, lambda sources: sources.replace((), damaged))

    def with_snapshot(self, use: Callable[[Snapshot], T]) -> T:
        """Copy the database in one transaction and hand the copy to ``use``."""
        with tempfile.TemporaryDirectory(prefix="backup-", dir=self._folder) as temporary:
            target = Path(temporary) / "recent.duckdb"
            with self._store.reading() as cursor:
                source = cursor.execute("SELECT current_database()").fetchall()[0][0]
                cursor.execute(f"ATTACH {sql.quoted(str(target))} AS copy_of_it")
                try:
                    cursor.execute(f'COPY FROM DATABASE "{source}" TO copy_of_it')
                finally:
                    cursor.execute("DETACH copy_of_it")
            with duckdb.connect(str(target)) as copy:
                files = copy.execute("SELECT file, rows FROM partitions").fetchall()
                series = copy.execute("SELECT count(*) FROM series").fetchall()[0][0]
                recent = copy.execute(
                    "SELECT coalesce(sum(estimated_size), 0)::BIGINT FROM duckdb_tables() "
                    "WHERE table_name LIKE 'recent\\_%' ESCAPE '\\'"
                ).fetchall()[0][0]
            partitions = [self.partitions / file for file, _ in files]
            return use(
                Snapshot(target, partitions, series, recent + sum(rows for _, rows in files))
            )

    def _due(self, day: int, now_ms: int) -> bool:
        """Whether the recent measurements of a day are to become a partition now."""
        if now_ms < (day + 1) * DAY_MS + self._settings.seal_after * 1000:
            return self._rows(day) >= self._settings.seal_rows
        sealed = any(p.day == day for p in self._store.sources.partitions)
        return not sealed or _closed(day, now_ms) or self._rows(day) >= LATE_ROWS

    def _rows(self, day: int) -> int:
        tables = [t for t in self._store.sources.tables if t.day == day]
        with self._store.reading() as cursor:
            counts = [
                cursor.execute(f"SELECT count(*) FROM {t.name}").fetchall()  # noqa: S608
                for t in tables
            ]
        return sum(int(rows[0][0]) for rows in counts)

    def _replace(self, day: int, *, merge: bool) -> None:
        """Write a day's tables (with ``merge`` its partitions too) to one new partition."""
        tables = self._close_tables(day)
        old = [p for p in self._store.sources.partitions if merge and p.day == day]
        sources = Sources(tuple(tables), tuple(old))
        if not tables and not old:
            return
        parts = [p.number for p in (*self._store.sources.partitions, *self.damaged) if p.day == day]
        number = max([max(parts, default=0) + 1, *(t.number for t in tables)])
        file = f"{_date(day)}.{number}.parquet"
        temporary = self.partitions / f"{file}.tmp"
        try:
            partition = self._write_partition(day, file, temporary, sources)
        except (duckdb.Error, OSError) as error:
            temporary.unlink(missing_ok=True)
            log.error("day %s could not be sealed, will be tried again: %s", _date(day), error)
            self.set_aside_damaged(old)
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
                [day, file, partition.rows, partition.bytes, partition.sha256],
            )

        self._store.write(work, lambda now: now.replace(tables, old, [partition]))
        self._unlink(old)
        log.info(
            "sealed %s: %s measurements, %.2f bytes each",
            _date(day), partition.rows, partition.bytes / max(1, partition.rows),
        )  # fmt: skip

    def _close_tables(self, day: int) -> list[Table]:
        """From here on the tables that the day has do not change; more goes into a new one."""
        tables = [t for t in self._store.sources.tables if t.day == day]
        self._store.write(lambda _: None, lambda sources: sources.close_tables(tables))
        return tables

    def _write_partition(self, day: int, file: str, temporary: Path, sources: Sources) -> Partition:
        def path_of(name: str) -> str:
            return str(self.partitions / name)

        with self._store.reading() as cursor:
            copied = cursor.execute(sql.sorted_copy(sources, path_of, str(temporary)))
            rows = int(copied.fetchall()[0][0])
        _sync(temporary)
        digest, size = _sha256(temporary), temporary.stat().st_size
        temporary.rename(self.partitions / file)
        _sync(self.partitions)
        return Partition(day, file, rows, size, digest)

    def _unlink(self, partitions: Sequence[Partition]) -> None:
        for partition in partitions:
            (self.partitions / partition.file).unlink(missing_ok=True)


def _closed(day: int, now_ms: int) -> bool:
    """Whether no more measurements of that day can be accepted."""
    return (day + 1) * DAY_MS + PAST_MS + FUTURE_MS < now_ms


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


def _execute(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    connection.execute(text)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
