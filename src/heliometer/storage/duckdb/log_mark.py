"""How far the write-ahead log was on stable storage at least: tells a log that was cut, emptied or
removed from one that ends where the process did.

The mark is written after each commit, without a sync of its own: what it says is a lower bound,
whatever became of the machine. Only before the log is replaced, at a checkpoint, it is synced, and
claims nothing until the next commit. It also has a copy of the headers of the database's file,
which cannot be read at all without them.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

_MARK = struct.Struct("<8sQ64s")
_CHECK = struct.Struct("<I")
_HEADERS_AT = 128
_MAGIC = b"HELIOLOG"
HEADERS_END = 12288
"""Length of the headers of a DuckDB file."""
BEGINNING = 64
"""How many bytes of a log tell it from another one."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where the log ended after a commit, and how it begins; length 0 claims nothing."""

    length: int
    beginning: bytes


class LogMark:
    """The mark beside a database file. One thread at a time may use it."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}.mark")
        self._database = database
        self._log = database.with_name(f"{database.name}.wal")
        self._descriptor = -1
        self._beginning = b""

    def read(self) -> Position | None:
        """What it says; ``None``: there is none, or it is damaged."""
        try:
            raw = self.path.read_bytes()
        except OSError:
            return None
        if len(raw) < _MARK.size + _CHECK.size:
            return None
        if _CHECK.unpack_from(raw, _MARK.size)[0] != zlib.crc32(raw[: _MARK.size]):
            return None
        magic, length, beginning = _MARK.unpack(raw[: _MARK.size])
        return Position(length, beginning.rstrip(b"\0")) if magic == _MAGIC else None

    def release(self) -> None:
        """Claim nothing, and sync that: the log is about to be replaced. Raises OSError."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self._beginning = b""
        self._write(0)
        os.fsync(self._descriptor)

    def advance(self) -> int:
        """After a commit: claim the log as it is. Returns its length. Raises OSError."""
        try:
            length = self._log.stat().st_size
            if not self._beginning and length:
                with self._log.open("rb") as file:
                    self._beginning = file.read(BEGINNING).rstrip(b"\0")
        except FileNotFoundError:
            return 0  # DuckDB has just made a checkpoint
        if self._descriptor >= 0:
            self._write(length)
        return length

    def keep_headers(self) -> None:
        """Copy the headers of the database's file. Raises OSError.

        Never while DuckDB has the file open in this process: closing it here would release
        DuckDB's lock.
        """
        with self._database.open("rb") as file:
            raw = file.read(HEADERS_END)
        if self._descriptor >= 0 and len(raw) == HEADERS_END:
            os.pwrite(self._descriptor, raw + _CHECK.pack(zlib.crc32(raw)), _HEADERS_AT)

    def headers(self) -> bytes | None:
        """The copy of the headers, as they were when the file was last opened or closed; ``None``:
        there is none, or it is damaged."""
        try:
            raw = self.path.read_bytes()[_HEADERS_AT:]
        except OSError:
            return None
        if len(raw) != HEADERS_END + _CHECK.size:
            return None
        expected = _CHECK.unpack(raw[HEADERS_END:])[0]
        return raw[:HEADERS_END] if zlib.crc32(raw[:HEADERS_END]) == expected else None

    def close(self) -> None:
        """Close its file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, length: int) -> None:
        raw = _MARK.pack(_MAGIC, length, self._beginning)
        os.pwrite(self._descriptor, raw + _CHECK.pack(zlib.crc32(raw)), 0)
