"""The blocks inserted into ClickHouse: rows, and the markers of their receipts."""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np

from heliometer.metrics.model import Batch, Int64s, Series
from heliometer.metrics.receipts import Receipt
from heliometer.storage.clickhouse import native
from heliometer.storage.clickhouse.sql import DAY_MS

_MARKER_BITS = 62


def slots_of(series: Int64s, slots: int) -> Int64s:
    """The cluster slot of each series, as ClickHouse computes it from ``abs(series)``."""
    return np.abs(series) % slots


def marker(receipt: Receipt, slots: int) -> int:
    """A receipt's marker in slot 0; the following numbers are its markers in the next slots.
    Negated, they are series ids that no measurement has. The same in every process and version."""
    name = f"{receipt.project_id}\0{receipt.encoded_key}".encode()
    digest = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
    number = digest & ((1 << _MARKER_BITS) - 1)
    return number - number % slots + slots


def token(day: int, receipts: Sequence[Receipt]) -> str:
    """A name for the block that these receipts make on a day; empty if there are none."""
    if not receipts:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for receipt in receipts:
        digest.update(f"{receipt.project_id}\0{receipt.encoded_key}\0".encode())
    return f"{day}-{digest.hexdigest()}"


def by_day(batch: Batch) -> Iterator[tuple[int, Batch]]:
    """The days since the epoch that have rows, and the rows of each."""
    if not len(batch):
        return
    days = batch.timestamp // DAY_MS
    first = int(days[0])
    if first == days.min() == days.max():
        yield first, batch
        return
    for day in np.unique(days).tolist():
        rows = days == day
        yield day, Batch(batch.series[rows], batch.timestamp[rows], batch.value[rows])


def of_day(day: int, rows: Batch, markers: Sequence[int], slots: int) -> bytes:
    """The block of one day: its rows, and each marker once in every slot that has rows."""
    if markers:
        used = np.unique(slots_of(rows.series, slots)).tolist()
        marked = np.array([-(m + slot) for m in markers for slot in used], np.int64)
        start = np.full(len(marked), day * DAY_MS, np.int64)
        rows = Batch.concatenate([Batch(marked, start, np.zeros(len(marked))), rows])
    return native.encode([("series", rows.series), ("ts", rows.timestamp), ("value", rows.value)])


def of_series(series: Sequence[Series]) -> bytes:
    """A block of series, without the time of their insertion."""
    return native.encode(
        [
            ("id", np.array([s.id for s in series], np.int64)),
            ("project_id", [s.project_id for s in series]),
            ("namespace", [s.namespace for s in series]),
            ("dimensions", [json.dumps(s.dimensions, ensure_ascii=False) for s in series]),
        ]
    )


def of_receipts(receipts: Sequence[Receipt]) -> bytes:
    """A block of receipts, with all of their columns."""
    return native.encode(
        [
            ("project_id", [r.project_id for r in receipts]),
            ("key", [r.encoded_key for r in receipts]),
            ("fingerprint", [r.fingerprint for r in receipts]),
            ("at", np.array([r.at_ms for r in receipts], np.int64)),
        ]
    )
