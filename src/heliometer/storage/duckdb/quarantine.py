"""Where files are set aside that are damaged, or that nothing here knows: never deleted by us."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

FOLDER = "quarantine"
_WHY = ".why"
TAKEN_BACK = ".taken-back"
"""Ending of the names of files whose measurements are in the store again."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file in quarantine, and the reason in a sentence."""

    path: Path
    why: str


class Quarantine:
    """The quarantine of one store, a folder within its own."""

    def __init__(self, store: Path) -> None:
        self.folder = store / FOLDER

    def take(self, path: Path, why: str) -> Path:
        """Move a file here; returns its new path. Raises OSError."""
        target = self._free_name(path.name)
        path.rename(target)
        target.with_name(target.name + _WHY).write_text(why + "\n", encoding="utf-8")
        log.error("%s was set aside as %s: %s", path, target, why)
        return target

    def keep(self, name: str, content: bytes, why: str) -> Path:
        """Keep bytes that are about to be cut off or overwritten. Raises OSError."""
        target = self._free_name(name)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        target.with_name(target.name + _WHY).write_text(why + "\n", encoding="utf-8")
        return target

    def taken_back(self, path: Path) -> None:
        """Note that what a file held is in the store again. Raises OSError."""
        path.rename(self._free_name(path.name + TAKEN_BACK))

    def entries(self) -> list[SetAside]:
        """What is here and was not taken back, by name."""
        try:
            names = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        found = []
        for path in names:
            if path.suffix == _WHY or TAKEN_BACK in path.name:
                continue
            try:
                why = path.with_name(path.name + _WHY).read_text(encoding="utf-8").strip()
            except OSError:
                why = "the reason was not kept"
            found.append(SetAside(path, why))
        return found

    def _free_name(self, name: str) -> Path:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        target, number = self.folder / name, 1
        while target.exists():
            target = self.folder / f"{name}.{number}"
            number += 1
        return target
