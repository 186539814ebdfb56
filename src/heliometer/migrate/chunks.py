"""Reading a day of measurements piece by piece, with the target's ids of the series."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from heliometer.metrics.model import Batch, Int64s
from heliometer.migrate.digests import Digests, digest
from heliometer.migrate.ports import MeasurementSource, Piece

T = TypeVar("T")


class ReadPiece(NamedTuple):
    """The rows of a piece by the target's ids, and their digests."""

    rows: Batch
    digests: Digests
    unknown: int
    """Measurements that were left out, because the source does not know their series."""


class Reader:
    """Reads the source in a thread of its own."""

    def __init__(self, source: MeasurementSource) -> None:
        self.source = source
        self._thread = ThreadPoolExecutor(1, "snapshot")

    def close(self) -> None:
        """Wait for what is being read, and end the thread."""
        self._thread.shutdown()

    async def call(self, work: Callable[[], T]) -> T:
        """Do blocking work on the source."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def read(self, wanted: Iterable[Piece], shared_ids: Int64s) -> AsyncIterator[ReadPiece]:
        """Each piece in turn; the next one is read while this one is used. ``shared_ids`` maps the
        source's ids to the target's; 0 if there is none."""
        waiting: asyncio.Future[ReadPiece] | None = None
        for piece in wanted:
            ahead = asyncio.ensure_future(self.call(partial(self._read, piece, shared_ids)))
            if waiting is not None:
                yield await waiting
            waiting = ahead
        if waiting is not None:
            yield await waiting

    def _read(self, piece: Piece, shared_ids: Int64s) -> ReadPiece:
        rows = self.source.read(piece)
        number = np.where(rows.series < len(shared_ids), rows.series, 0)
        shared = shared_ids[np.maximum(number, 0)]
        unknown = 0
        if not shared.all():
            known = shared > 0
            unknown = int((~known).sum())
            rows = Batch(rows.series[known], rows.timestamp[known], rows.value[known])
            shared = shared[known]
        rows = Batch(shared, rows.timestamp, rows.value)
        return ReadPiece(rows, digest(rows), unknown)


def pieces(day: int, series: Int64s, counts: Int64s, rows: int) -> Iterator[Piece]:
    """Divide a day's series into pieces of at most ``rows``; a larger series is a piece alone."""
    first = total = 0
    for i, count in enumerate(counts.tolist()):
        if total and total + count > rows:
            yield Piece(day, int(series[first]), int(series[i - 1]))
            first, total = i, 0
        total += count
    if total:
        yield Piece(day, int(series[first]), int(series[-1]))
