"""Reports that an agent has not delivered yet: files in a folder, so that nothing is lost while the
server is down or when the agent ends."""

import fcntl
import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<stamp>\d{13})-(?P<key>[0-9a-f]{32})\.json\.gz")
_LOCK = "lock"


class SpoolInUse(Exception):
    """Another agent is using the folder."""


class Entry(NamedTuple):
    """A report that has not been delivered yet."""

    timestamp_ms: int
    """When the report was collected."""
    key: str
    """The idempotency key: the server stores the report once, however often it is sent."""
    path: Path

    def read(self) -> bytes:
        """The report's body, compressed. Raises OSError."""
        return self.path.read_bytes()


class Spool:
    """A folder of at most ``limit_bytes``, from which the oldest reports are dropped."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._lock: int | None = None

    def open(self) -> None:
        """Create and lock the folder. Raises SpoolInUse or OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise SpoolInUse(
                f"another agent uses {self.folder}; give each a folder of its own with --spool"
            ) from error
        for half in self.folder.glob("*.part"):
            with suppress(OSError):
                half.unlink()  # a write that was interrupted

    def close(self) -> None:
        """Release the folder's lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def add(self, report: bytes, timestamp_ms: int, key: str = "") -> int:
        """Store a report; returns how many old ones were dropped to make room. Raises OSError if it
        could not be stored."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        dropped = self._make_room(len(report))
        key = key or uuid.uuid4().hex
        path = self.folder / f"{timestamp_ms:013d}-{key}.json.gz"
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                file.write(report)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        return dropped

    def entries(self) -> list[Entry]:
        """All reports, oldest first."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match and path.is_file():
                found.append(Entry(int(match["stamp"]), match["key"], path))
        return sorted(found)

    def remove(self, entry: Entry) -> None:
        """Remove a report that was delivered, or never will be."""
        entry.path.unlink(missing_ok=True)

    def size(self) -> tuple[int, int]:
        """The number of reports, and their size in bytes."""
        sizes = list(self._sizes())
        return len(sizes), sum(sizes)

    def _sizes(self) -> Iterator[int]:
        for entry in self.entries():
            try:
                yield entry.path.stat().st_size
            except FileNotFoundError:
                continue

    def _make_room(self, needed: int) -> int:
        entries = self.entries()
        sizes = [entry.path.stat().st_size for entry in entries]
        total, dropped = sum(sizes), 0
        for entry, size in zip(entries, sizes, strict=True):
            if total + needed <= self._limit_bytes:
                break
            self.remove(entry)
            total -= size
            dropped += 1
        return dropped
