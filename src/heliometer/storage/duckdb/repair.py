"""Repairs the embedded store: works on a copy, which takes the place of the store only in the end.

Nothing is deleted: what the repaired store replaces goes to quarantine.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from heliometer.storage.duckdb import catalog, condition
from heliometer.storage.duckdb.adoption import Adoption
from heliometer.storage.duckdb.correction import Copied, copy_corrected
from heliometer.storage.duckdb.log_mark import LogMark
from heliometer.storage.duckdb.quarantine import Quarantine
from heliometer.storage.duckdb.salvage import Salvaged, salvage
from heliometer.storage.errors import StoreUnusable

log = logging.getLogger(__name__)

DATABASE = "recent.duckdb"


@dataclass(slots=True)
class Report:
    """What a repair found, saved and lost."""

    problems: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """What stays in quarantine, and why."""


@dataclass(slots=True)
class _Work:
    folder: Path
    """Of the copy."""
    connection: duckdb.DuckDBPyConnection
    database_damaged: bool


def repair_store(folder: Path, memory_bytes: int, *, apply: bool) -> Report:
    """Find out what can be saved, and with ``apply`` save it. Raises StoreUnusable when another
    process has the store open, OSError, or ``duckdb.Error`` when the disk is full."""
    report = Report()
    database = folder / DATABASE
    if not folder.exists():
        return report
    problem = _problem(database)
    for left in folder.glob("repair-*"):
        shutil.rmtree(left, ignore_errors=True)
    with _copy(folder, memory_bytes, problem, report) as work:
        adoption = Adoption(folder, work.folder, work.connection, report)
        adoption.run()
        work.connection.close()
        if apply and (report.problems or adoption.changed):
            _take_place(folder, work, adoption)
    return report


def _problem(database: Path) -> str:
    """What is wrong with the database, before DuckDB opens it."""
    try:
        if database.exists() and database.stat().st_size:
            condition.require_unlocked(database)
    except condition.InUse as error:
        raise StoreUnusable(f"{database} is in use: stop the server first") from error
    return condition.problem(database, LogMark(database))


@contextmanager
def _copy(folder: Path, memory_bytes: int, problem: str, report: Report) -> Iterator[_Work]:
    with tempfile.TemporaryDirectory(prefix="repair-", dir=folder) as name:
        scratch = Path(name)
        (scratch / "partitions").mkdir()
        rebuilt = scratch / DATABASE
        connection = catalog.open_database(rebuilt, memory_bytes)
        try:
            damaged = bool(problem)
            if problem:
                report.problems.append(problem)
            source = folder / DATABASE
            if source.exists() and source.stat().st_size:
                damaged |= _salvage(source, scratch, connection, report)
            elif problem:
                report.lost.append("the measurements that were not sealed")
            yield _Work(scratch, connection, damaged)
        finally:
            connection.close()


def _salvage(
    source: Path, scratch: Path, connection: duckdb.DuckDBPyConnection, report: Report
) -> bool:
    """Copy what can be read; whether anything was wrong."""
    copy = scratch / "damaged.duckdb"
    copied = copy_corrected(source, copy)
    wal = copy.with_name(f"{copy.name}.wal")
    found = None
    for shorter in range(3):
        if shorter:  # a later transaction may need one that is lost
            copied = copy_corrected(source, copy, prefix=shorter == 1)
            if shorter == 2:
                wal.unlink(missing_ok=True)
        try:
            found = salvage(copy, connection)
            break
        except duckdb.Error as error:
            reason = str(error).splitlines()[0].replace(str(scratch), "")
            log.warning("reading %s in part: %s", source, reason)
    if found is None:
        report.problems.append(f"{source} cannot be read: {reason}")
        report.lost.append(f"the measurements of {source.name} that were not sealed")
        return True
    if shorter:
        rest = "what it held after the first damaged place" if shorter == 1 else "all that it held"
        copied.notes.append(f"the log cannot be read further ({reason}): {rest} is lost")
        copied.log_lost = True
    _tell(source, copied, found, report)
    return bool(copied.corrected or copied.log_lost or found.lost)


def _tell(source: Path, copied: Copied, found: Salvaged, report: Report) -> None:
    recent = sum(rows for name, rows in found.tables.items() if name.startswith("recent_"))
    if copied.corrected:
        report.problems.append(f"{copied.corrected} damaged bytes in {source.name} or its log")
        report.saved.append(f"{copied.corrected} damaged bytes, corrected by their checksums")
    if found.lost or copied.log_lost:
        report.problems += copied.notes
        report.saved.append(f"{recent} measurements that were not sealed")
    if copied.log_lost:
        report.lost += [note for note in copied.notes if "lost" in note]
    for name, rows in found.lost.items():
        what = "measurements" if name.startswith("recent_") else f"rows of table {name}"
        report.problems.append(f"table {name} of {source.name} is damaged")
        report.lost.append(f"{rows} {what} of {source.name}, in damaged blocks")


def _take_place(folder: Path, work: _Work, adoption: Adoption) -> None:
    quarantine = Quarantine(folder)
    adoption.commit(quarantine)
    database = folder / DATABASE
    why = "damaged: replaced by heliometer repair"
    for path in (database, *(database.with_name(f"{DATABASE}.{e}") for e in ("wal", "mark"))):
        if path.exists():
            kept = quarantine.take(path, why)
            quarantine.taken_back(kept)
    os.rename(work.folder / DATABASE, database)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
