"""The connections to DuckDB: one that writes, a cursor for each thread that reads, and recovery
from errors that DuckDB does not survive."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from heliometer.core.errors import Code, HeliometerError
from heliometer.storage.duckdb import catalog, condition
from heliometer.storage.duckdb.log_mark import LogMark
from heliometer.storage.duckdb.quarantine import Quarantine

log = logging.getLogger(__name__)

_COMMITTED = "COMMIT succeeded and is durable"
"""DuckDB's message when a checkpoint failed after the commit."""

CHECKPOINT_BYTES = 16 << 20
"""Size of the log beyond which its content goes into the database's file."""

Work = Callable[[duckdb.DuckDBPyConnection], None]


@dataclass(slots=True)
class _Reader:
    """One thread's cursor. Its lock is held while it is used, and while it is replaced."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    cursor: duckdb.DuckDBPyConnection | None = None


class Database:
    """Transactions for one writing thread, cursors for any number of reading ones. ``reopened`` is
    called in the writing thread with the new connection after a recovery."""

    def __init__(self, path: Path, memory_bytes: int, reopened: Work) -> None:
        self._path = path
        self._memory_bytes = memory_bytes
        self._reopened = reopened
        self._mark = LogMark(path)
        self._checkpoint_at = CHECKPOINT_BYTES
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._local = threading.local()
        self._readers: list[_Reader] = []
        self._registering = threading.Lock()

    def open(self) -> duckdb.DuckDBPyConnection:
        """Open or create the file. Raises condition.InUse, condition.Damaged, catalog.WrongFormat,
        OSError or ``duckdb.Error``."""
        condition.require_whole(self._path, self._mark, Quarantine(self._path.parent))
        if self._path.exists():
            self._mark.release()  # DuckDB may replace the log as it opens it
            self._mark.keep_headers()
        self._connection = catalog.open_database(self._path, self._memory_bytes)
        self._mark.release()
        self._checkpoint_at = CHECKPOINT_BYTES
        return self._connection

    def close(self) -> None:
        """Checkpoint and close the file."""
        with ExitStack() as stack:
            self._close(stack)
        self._mark.close()

    def transaction(self, work: Work) -> None:
        """Run ``work`` as a transaction, in the writing thread only. Raises UNAVAILABLE when it was
        not committed, or when that is unknown."""
        try:
            if self._connection is None:
                self._start_over()
            connection = self._connection
            if connection is None:
                raise duckdb.ConnectionException("the database is not open")
            connection.begin()
            try:
                work(connection)
                connection.commit()
            except BaseException:
                _roll_back(connection)
                raise
            self._committed(connection)
        except duckdb.Error as error:
            log.error("measurements could not be stored: %s", error)
            if isinstance(error, duckdb.FatalException | duckdb.InternalException):
                self._start_over()
            if _COMMITTED in str(error):
                return
            raise HeliometerError(
                Code.UNAVAILABLE,
                "The measurements could not be stored.",
                details="Send the request again, with the same Idempotency-Key if it had one.",
                retry_after=5,
            ) from error

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The calling thread's cursor, locked inside the block. Raises ``duckdb.Error``."""
        reader: _Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = _Reader()
            with self._registering:
                self._readers.append(reader)
        with reader.lock:
            if reader.cursor is None:
                if self._connection is None:
                    raise duckdb.ConnectionException("the database is not open")
                reader.cursor = self._connection.cursor()
            yield reader.cursor

    def _committed(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Note how far the log is safe, and make a checkpoint when it is long. The commit stands,
        whatever becomes of this."""
        try:
            length = self._mark.advance()
            if length < self._checkpoint_at:
                return
            self._mark.release()
            connection.execute("CHECKPOINT")
            self._checkpoint_at = CHECKPOINT_BYTES
        except (duckdb.Error, OSError) as error:
            log.warning("the log of the measurements could not be shortened: %s", error)
            self._checkpoint_at += CHECKPOINT_BYTES
            if isinstance(error, duckdb.FatalException | duckdb.InternalException):
                self._start_over()

    def _start_over(self) -> None:
        """Reopen the database: after a failed sync, for example, DuckDB refuses everything until
        every connection is closed."""
        with ExitStack() as stack:
            self._close(stack)
            try:
                connection = self.open()
                self._reopened(connection)
                log.warning("the store of the measurements was opened again after a fatal error")
            except (
                duckdb.Error, catalog.WrongFormat, condition.InUse, condition.Damaged, OSError
            ) as error:  # fmt: skip
                log.critical("the store of the measurements cannot be opened again: %s", error)

    def _close(self, stack: ExitStack) -> None:
        """Close every connection; none is given out until ``stack`` is closed."""
        stack.enter_context(self._registering)
        for reader in self._readers:
            if reader.cursor is not None:
                reader.cursor.interrupt()
            stack.enter_context(reader.lock)
            if reader.cursor is not None:
                reader.cursor.close()
                reader.cursor = None
        if self._connection is not None:
            try:
                self._mark.release()
                self._connection.close()
                self._mark.keep_headers()
            except (duckdb.Error, OSError) as error:
                log.warning("closing the store of the measurements: %s", error)
            self._connection = None


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.rollback()
    except duckdb.Error as error:
        log.debug("there was nothing to roll back: %s", error)  # the commit itself failed
