"""Digests of measurements by which two stores find out whether they have the same, and what one
lacks: for each series how many there are, and a sum that no other measurements are likely to have.

The sum is over a hash of each measurement, modulo 2^64. It does not depend on the order, and
counts equal measurements as often as they are there. ClickHouse's SQL
(``storage.clickhouse.migration_target``) computes the same.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heliometer.metrics.model import Batch, Float64s, Int64s

UInt64s = NDArray[np.uint64]

_SALT = np.uint64(0x4CF2D2BAAE6DA887)
_FIRST = np.uint64(0xFF51AFD7ED558CCD)
_SECOND = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


class Digests(NamedTuple):
    """One row a series, in no order that matters."""

    series: Int64s
    number: Int64s
    """How many measurements."""
    sum: UInt64s

    @staticmethod
    def none() -> "Digests":
        """Digests of no series at all."""
        return Digests(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))

    @staticmethod
    def concatenate(parts: list["Digests"]) -> "Digests":
        """The rows of all; no series may be in two."""
        if not parts:
            return Digests.none()
        return Digests(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def find(self, series: Int64s) -> tuple[Int64s, UInt64s]:
        """Number and sum of each of some series; 0 and 0 of one that is not here."""
        if not len(self.series):
            return np.zeros(len(series), np.int64), np.zeros(len(series), np.uint64)
        order = np.argsort(self.series)
        mine = self.series[order]
        at = np.minimum(np.searchsorted(mine, series), len(mine) - 1)
        here = mine[at] == series
        where = order[at]
        return np.where(here, self.number[where], 0), np.where(here, self.sum[where], np.uint64(0))


def hashes(timestamp: Int64s, value: Float64s) -> UInt64s:
    """A number for each measurement."""
    return _int_hash(_int_hash(timestamp.view(np.uint64)) ^ value.view(np.uint64))


def digest(batch: Batch) -> Digests:
    """Of rows that are sorted by series."""
    if not len(batch):
        return Digests.none()
    starts = np.flatnonzero(np.diff(batch.series, prepend=batch.series[0] - 1))
    counts = np.diff(starts, append=len(batch))
    sums = np.add.reduceat(hashes(batch.timestamp, batch.value), starts)
    return Digests(batch.series[starts], counts, sums)


def subtract(batch: Batch, other: Batch) -> Batch:
    """The rows of the first that the second lacks. One that the first has more often is among
    them as often as the second lacks it."""
    both = Batch.concatenate([batch, other])
    bits = both.value.view(np.int64)  # so that 0.0 and -0.0 differ
    sign = np.ones(len(both), np.int64)
    sign[len(batch) :] = -1
    order = np.lexsort((bits, both.timestamp, both.series))
    series, timestamp, bits = both.series[order], both.timestamp[order], bits[order]
    if not len(order):
        return batch
    first = np.ones(len(order), bool)
    first[1:] = (
        (series[1:] != series[:-1]) | (timestamp[1:] != timestamp[:-1]) | (bits[1:] != bits[:-1])
    )
    starts = np.flatnonzero(first)
    more = np.maximum(np.add.reduceat(sign[order], starts), 0)
    rows = np.repeat(starts, more)
    return Batch(series[rows], timestamp[rows], bits[rows].view(np.float64))


def _int_hash(number: UInt64s) -> UInt64s:
    """ClickHouse's intHash64."""
    x = number ^ _SALT
    x ^= x >> _SHIFT
    x *= _FIRST
    x ^= x >> _SHIFT
    x *= _SECOND
    x ^= x >> _SHIFT
    return x
