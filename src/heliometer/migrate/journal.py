"""What earlier passes did, in a file for each target. It saves work, and distinguishes a target of
earlier passes from any other."""

import hashlib
import os
from pathlib import Path

import msgspec


class CopiedDay(msgspec.Struct, frozen=True):
    """A day of measurements that was found to be equal on both sides."""

    content: str
    """Digest of what the source held."""
    rows_there: int
    """Rows that the target had of it."""
    counts: list[tuple[str, str, int]]
    """Project, namespace, and how many measurements."""


class Journal(msgspec.Struct):
    """What is known of one target."""

    target: str
    days: dict[int, CopiedDay] = {}
    tables: list[dict[str, tuple[int, str]]] = []
    """Rows and digest of each table of resources: as we left them, and, when the last pass was
    interrupted, as we were about to make them."""


class JournalFile:
    """The journal of a migration, in a file."""

    def __init__(self, folder: Path, target: str) -> None:
        """``target`` is the name of a target, without secrets. Raises OSError."""
        name = hashlib.sha256(target.encode()).hexdigest()[:16]
        self._path = folder / f"{name}.json"
        self.begun = False
        """Whether there has been a pass to the target."""
        self.journal = Journal(target)
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Journal)
        except FileNotFoundError:
            return
        except msgspec.MsgspecError:
            return  # always replaced as a whole, so something else wrote this
        self.begun = found.target == target
        if self.begun:
            self.journal = found

    def save(self) -> None:
        """Write the journal; it is durable on return. Raises OSError."""
        partial = self._path.with_suffix(".tmp")
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(self.journal))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.begun = True
