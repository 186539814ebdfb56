"""Reading the embedded store while tables are being replaced by partitions."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import duckdb

from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Aggregation, Batch, Datapoints, Series
from heliometer.metrics.receipts import Receipt
from heliometer.storage.duckdb import catalog, sql
from heliometer.storage.duckdb.sources import Partition, Sources
from heliometer.storage.duckdb.writer import Writer

T = TypeVar("T")
log = logging.getLogger(__name__)

_RETRIES = 10
_SWAP_S = 0.02
"""How long a reader waits for a replacement in progress before it retries, in seconds."""
_NOT_OF_FILES = (
    duckdb.CatalogException,
    duckdb.ConnectionException,
    duckdb.FatalException,
    duckdb.InterruptException,
    duckdb.OutOfMemoryException,
)
"""Errors that are not caused by damaged partitions."""


class Reader:
    """Runs queries, in any thread.

    ``damaged_among`` returns which of some partitions have not the recorded checksum; it is asked
    before each query, so that none reads what is damaged. ``leave_out_damaged`` takes the sources
    that a query failed on, and returns whether any of them is now left out.
    """

    def __init__(
        self,
        writer: Writer,
        path_of: Callable[[str], str],
        damaged_among: Callable[[Sequence[Partition]], Sequence[Partition]],
        leave_out_damaged: Callable[[Sources], bool],
    ) -> None:
        self._writer = writer
        self._path_of = path_of
        self._damaged_among = damaged_among
        self._leave_out_damaged = leave_out_damaged

    def aggregate(self, a: Aggregation) -> Datapoints:
        """Statistics by series and period."""

        def query(cursor: duckdb.DuckDBPyConnection, sources: Sources) -> Datapoints:
            text = sql.aggregate(a, sources, self._path_of)
            columns = sql.fetch(cursor, text, a.series)
            return Datapoints(
                columns.pop("series"), columns.pop("ts"), {s: columns[s] for s in a.statistics}
            )

        return self._read(query, a.start_ms, a.end_ms)

    def read(self, series: Sequence[int], start_ms: int, end_ms: int) -> Batch:
        """Measurements by series and time."""

        def query(cursor: duckdb.DuckDBPyConnection, sources: Sources) -> Batch:
            text = sql.read(series, start_ms, end_ms, sources, self._path_of)
            return _batch(cursor, text, series)

        return self._read(query, start_ms, end_ms)

    def latest(self, series: Sequence[int], start_ms: int, end_ms: int, limit: int) -> Batch:
        """The newest measurements."""

        def query(cursor: duckdb.DuckDBPyConnection, sources: Sources) -> Batch:
            text = sql.latest(series, start_ms, end_ms, limit, sources, self._path_of)
            return _batch(cursor, text, series)

        return self._read(query, start_ms, end_ms)

    def series(self) -> list[Series]:
        """All series, sorted by id."""
        return self._read(lambda cursor, _: catalog.read_series(cursor))

    def owners(self) -> set[str]:
        """The projects that have series."""
        text = "SELECT DISTINCT project_id FROM series WHERE project_id <> ''"
        return self._read(lambda cursor, _: {p for (p,) in cursor.execute(text).fetchall()})

    def receipts(self, since_ms: int) -> list[Receipt]:
        """The receipts of requests accepted since then."""
        return self._read(lambda cursor, _: catalog.read_receipts(cursor, since_ms))

    def _read(
        self,
        query: Callable[[duckdb.DuckDBPyConnection, Sources], T],
        start_ms: int = 0,
        end_ms: int = 0,
    ) -> T:
        """Run ``query`` on the sources that may hold measurements of [start, end)."""
        # A table or file may be replaced between choosing and opening the sources. That causes an
        # error; the new sources are known as soon as the replacement has returned.
        for attempt in range(_RETRIES):
            now = self._writer.sources
            sources = now.within(start_ms, end_ms)
            damaged = self._damaged_among(sources.partitions)
            if damaged and now is self._writer.sources:
                self._leave_out_damaged(sources)
                sources = sources.replace((), damaged)
            elif damaged:  # replaced, not damaged
                continue
            try:
                with self._writer.reading() as cursor:
                    return query(cursor, sources)
            except duckdb.Error as error:
                replaced = isinstance(error, duckdb.CatalogException | duckdb.IOException)
                if replaced and attempt < _RETRIES - 1:
                    if now is self._writer.sources:
                        time.sleep(_SWAP_S)
                    continue
                if not isinstance(error, _NOT_OF_FILES) and self._leave_out_damaged(sources):
                    return self._read(query, start_ms, end_ms)
                log.error("measurements could not be read: %s", error)
                raise HeliometerError(
                    Code.UNAVAILABLE,
                    "The measurements could not be read.",
                    details="Send the request again; if it goes on, tell the operator.",
                    retry_after=5,
                ) from error
        raise AssertionError("unreachable")


def _batch(cursor: duckdb.DuckDBPyConnection, text: str, series: Sequence[int]) -> Batch:
    columns = sql.fetch(cursor, text, series)
    return Batch(columns["series"], columns["ts"], columns["value"])
