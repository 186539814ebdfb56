"""DuckDB's write-ahead log, as far as one must know it to tell whether it is whole.

DuckDB reads a log to the first entry that is not complete and takes that for its end; a log that is
cut, emptied or gone thus loses what was acknowledged, without a word. Entries are a length and a
checksum (eight bytes each, little-endian) and then the entry itself; a transaction ends with
``END_OF_TRANSACTION``. Before the first entry stands the version, and which checkpoint the log
continues.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_FRAME = struct.Struct("<QQ")
END_OF_TRANSACTION = bytes.fromhex("0500000000000000e7fe7d722fed3d5e640064ffff")
"""The entry that ends a transaction, with its frame."""
_HEAD = b"d\x00be\x00\x02f\x00\x10"
"""How a log of the version that we know begins."""
LONGEST_HEAD = 96
_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Transaction:
    """Where a transaction is in the log, and whether all its entries are whole."""

    start: int
    end: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Log:
    """The transactions of a log. ``known``: it has the form that we know."""

    known: bool
    head: int
    """Length of what stands before the first transaction."""
    transactions: tuple[Transaction, ...]
    size: int

    @property
    def whole_end(self) -> int:
        """Where the last whole transaction ends."""
        return max((t.end for t in self.transactions if t.whole), default=self.head)

    @property
    def damaged(self) -> tuple[Transaction, ...]:
        """Those that are not whole, although a whole one follows."""
        last = self.whole_end
        return tuple(t for t in self.transactions if not t.whole and t.start < last)


def read(path: Path) -> Log:
    """Read a log and check every entry. Raises OSError."""
    raw = path.read_bytes()
    head = head_length(raw)
    if head is None:
        return Log(False, 0, (), len(raw))
    transactions, at = [], head
    while at < len(raw):
        end = _transaction_end(raw, at)
        if end is not None:
            transactions.append(Transaction(at, end, True))
        else:
            # Whatever the length of the damaged entry said: the next transaction begins after the
            # next end of one.
            found = raw.find(END_OF_TRANSACTION, at)
            end = found + len(END_OF_TRANSACTION) if found >= 0 else len(raw)
            transactions.append(Transaction(at, end, False))
        at = end
    return Log(True, head, tuple(transactions), len(raw))


def is_complete(tail: bytes) -> bool:
    """Whether the first entry has its full length, so that DuckDB would find it damaged."""
    at = 0
    while at + _FRAME.size <= len(tail):
        end = _entry_end(tail, at)
        if end is None:
            return at + _FRAME.size + int(_FRAME.unpack_from(tail, at)[0]) <= len(tail)
        at = end
    return False


def checksum(raw: bytes | bytearray | memoryview) -> int:
    """DuckDB's checksum of a block or an entry of the log."""
    words = len(raw) // 8
    total = 5381
    if words:
        values = np.frombuffer(raw, dtype="<u8", count=words)
        with np.errstate(over="ignore"):
            total ^= int(np.bitwise_xor.reduce(values * _FACTOR))
    rest = bytes(raw[words * 8 :])
    if rest:
        factor = 0xC6A4A7935BD1E995
        value = 0xE17A1465 ^ (len(rest) * factor & _MASK)
        value = (value ^ int.from_bytes(rest, "little")) * factor & _MASK
        value = (value ^ value >> 47) * factor & _MASK
        total ^= value ^ value >> 47
    return total


def head_length(raw: bytes) -> int | None:
    """The length of the log's head, or ``None`` if it has not the form that we know."""
    if not raw.startswith(_HEAD):
        return None
    for length in range(len(_HEAD) + 16, min(LONGEST_HEAD, len(raw)) + 1):
        if raw[length - 2 : length] == b"\xff\xff" and (
            length == len(raw) or _entry_end(raw, length) is not None
        ):
            return length
    # Its first entry is damaged: the first end of the head's record that there is.
    at = raw.find(b"\xff\xff", len(_HEAD) + 16, LONGEST_HEAD)
    return at + 2 if at >= 0 else None


def _transaction_end(raw: bytes, at: int) -> int | None:
    while True:
        if raw.startswith(END_OF_TRANSACTION, at):
            return at + len(END_OF_TRANSACTION)
        end = _entry_end(raw, at)
        if end is None:
            return None
        at = end


def _entry_end(raw: bytes, at: int) -> int | None:
    """Where an entry ends; ``None``: it is damaged, or not complete."""
    if at + _FRAME.size > len(raw):
        return None
    size, expected = _FRAME.unpack_from(raw, at)
    end = at + _FRAME.size + int(size)
    if not size or end > len(raw):
        return None
    return end if checksum(memoryview(raw)[at + _FRAME.size : end]) == expected else None
