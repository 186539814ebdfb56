"""Whether the database's file and its log are what the last process left, before DuckDB opens them:
DuckDB takes an absent file for a new one, and a log that is cut for one that ends there."""

import fcntl
import logging
import os
from pathlib import Path

from heliometer.storage.duckdb import write_ahead_log
from heliometer.storage.duckdb.log_mark import LogMark
from heliometer.storage.duckdb.quarantine import Quarantine

log = logging.getLogger(__name__)


class InUse(Exception):
    """Another process has the database open."""


class Damaged(Exception):
    """The file or its log is damaged or lost. The message says which, without advice."""


def require_whole(database: Path, mark: LogMark, quarantine: Quarantine) -> None:
    """Check both before opening. Raises InUse, Damaged or OSError.

    The end of the log may be incomplete: what was being written when the process ended was never
    acknowledged. It is cut off, and kept, where DuckDB would refuse it.
    """
    exists = database.exists() and database.stat().st_size
    if exists:
        require_unlocked(database)
    found = problem(database, mark)
    if found:
        raise Damaged(found)
    if exists:
        _trim(log_of(database), quarantine)
    else:
        database.unlink(missing_ok=True)  # the first start was interrupted


def problem(database: Path, mark: LogMark) -> str:
    """What is wrong with the database or its log, in a sentence; empty: nothing. It only reads."""
    if database.exists() and database.stat().st_size:
        return log_problem(log_of(database), mark)
    reason = _others(database, mark, log_of(database))
    what = "is empty" if database.exists() else "is gone"
    return f"{database} {what}, but {reason}" if reason else ""


def log_of(database: Path) -> Path:
    """The path of a database's log."""
    return database.with_name(f"{database.name}.wal")


def log_problem(wal: Path, mark: LogMark) -> str:
    """What is wrong with the log, in a sentence; empty: nothing."""
    claim = mark.read()
    claimed = claim.length if claim else 0
    size = wal.stat().st_size if wal.exists() else 0
    if claimed and not size:
        return f"{wal} is {'empty' if wal.exists() else 'gone'}, with at least {claimed} bytes"
    if size < claimed:
        return f"{wal} was cut: it has {size} bytes, and had at least {claimed}"
    if not size:
        return ""
    found = write_ahead_log.read(wal)
    if claim and claimed:
        with wal.open("rb") as file:
            if file.read(len(claim.beginning)) != claim.beginning:
                return f"{wal} is damaged at its beginning, or another log took its place"
    elif not found.known:
        # Nothing was committed before the head was complete.
        return f"{wal} is damaged at its beginning" if size > write_ahead_log.LONGEST_HEAD else ""
    if found.damaged:
        first = found.damaged[0]
        return (
            f"{wal} is damaged at byte {first.start}: {len(found.damaged)} of its "
            f"{len(found.transactions)} transactions"
        )
    if found.whole_end < claimed:
        return f"{wal} is damaged at byte {found.whole_end}, near its end"
    return ""


def _others(database: Path, mark: LogMark, wal: Path) -> str:
    """What says that the database is not a new one."""
    sealed = len(list((database.parent / "partitions").glob("*.parquet")))
    if sealed:
        return f"{sealed} sealed partitions are there"
    if wal.exists() and wal.stat().st_size:
        return "its log is there"
    if mark.path.exists():
        return f"{mark.path.name} says that there was one"
    return ""


def _trim(wal: Path, quarantine: Quarantine) -> None:
    if not wal.exists():
        return
    found = write_ahead_log.read(wal)
    if not found.known or found.whole_end == found.size:
        return
    with wal.open("r+b") as file:
        file.seek(found.whole_end)
        tail = file.read()
        if not write_ahead_log.is_complete(tail):
            return  # DuckDB takes it for what it is
        kept = quarantine.keep(
            f"{wal.name}.tail", tail, "the end of the log was not written whole; not acknowledged"
        )
        log.warning("the end of %s was not written whole; it is kept as %s", wal, kept)
        file.truncate(found.whole_end)
        os.fsync(file.fileno())


def require_unlocked(database: Path) -> None:
    """Raise InUse while another process has the database open."""
    # Closing the descriptor would release locks of this process: it must not have the file open.
    with database.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse from error
        except PermissionError as error:
            raise InUse from error
