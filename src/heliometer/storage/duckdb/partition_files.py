"""The files of partitions: checks, writes and removes them, and sets aside what is damaged or not
known. Nothing else is ever removed than what the catalogue says has been replaced."""

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from heliometer.storage.duckdb import content
from heliometer.storage.duckdb.quarantine import Quarantine
from heliometer.storage.duckdb.sources import Partition, Sources

log = logging.getLogger(__name__)

Fingerprint = tuple[int, int, int, int]


class PartitionFiles:
    """The folder of partitions within the store's ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._store = folder
        self.folder = folder / "partitions"
        self.quarantine = Quarantine(folder)
        self.damaged: set[Partition] = set()
        """Partitions that are left out."""
        self._verified: dict[str, Fingerprint] = {}
        self._verifying = threading.Lock()

    def path(self, file: str) -> str:
        """The path of a partition's file."""
        return str(self.folder / file)

    def check(self, sources: Sources, unused: Collection[str] = ()) -> Sources:
        """After opening: leave out damaged partitions, and set aside unknown files. ``unused``: the
        files that the catalogue has replaced, or that it began and did not finish; they are removed
        unless something is missing."""
        for left in self._store.glob("backup-*"):
            shutil.rmtree(left, ignore_errors=True)  # left by an interrupted backup
        whole = []
        for partition in sources.partitions:
            path = self.folder / partition.file
            size = path.stat().st_size if path.exists() else -1
            if size == partition.bytes:
                whole.append(partition)
                continue
            log.error(
                "partition %s is damaged (%s bytes instead of %s): its %s measurements are left "
                "out; heliometer repair shows what can be saved",
                path, max(size, 0), partition.bytes, partition.rows,
            )  # fmt: skip
            self.damaged.add(partition)
            if size >= 0:
                self.quarantine.take(
                    path, f"damaged: it has {size} bytes instead of {partition.bytes}"
                )
        self._tidy({p.file for p in sources.partitions}, unused)
        return Sources(sources.tables, tuple(whole))

    def _tidy(self, named: set[str], unused: Collection[str]) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.suffix not in (".parquet", ".tmp") or path.name in named:
                continue
            if path.name.removesuffix(".tmp") not in unused:
                self.quarantine.take(path, "the catalogue does not name it")
            elif self.damaged:
                log.warning("%s is kept: it may have what a damaged partition had", path)
            else:
                path.unlink()  # replaced by a merge, or begun and not finished

    def verify(self, partitions: Sequence[Partition]) -> list[str]:
        """Read the files and describe each problem in a sentence."""
        problems = []
        for partition in partitions:
            path = self.folder / partition.file
            try:
                if _sha256(path) != partition.sha256:
                    problems.append(f"{path} is damaged: its checksum is not the recorded one")
            except OSError as error:
                problems.append(f"{path} cannot be read: {error.strerror}")
        return problems + [
            f"partition {partition.file} was damaged and set aside: "
            f"{partition.rows} measurements are left out"
            for partition in sorted(self.damaged, key=lambda p: p.file)
        ]

    def find_damaged(
        self, partitions: Sequence[Partition], *, again: bool = False
    ) -> list[Partition]:
        """The partitions whose checksum is wrong. Each file is read once, and again after it was
        changed, or if ``again``."""
        damaged = []
        for partition in partitions:
            if partition in self.damaged:
                damaged.append(partition)
                continue
            path = self.folder / partition.file
            try:
                found = _fingerprint(path)
                if not again and self._verified.get(partition.file) == found:
                    continue
                with self._verifying:
                    if not again and self._verified.get(partition.file) == found:
                        continue
                    whole = found[0] == partition.bytes and _sha256(path) == partition.sha256
                    if whole:
                        self._verified[partition.file] = found
            except FileNotFoundError:
                whole = False
            except OSError as error:
                log.error("partition %s cannot be read: %s", path, error)
                whole = False
            if not whole:
                damaged.append(partition)
        return damaged

    def set_aside_damaged(self, suspects: Sequence[Partition]) -> list[Partition]:
        """Set aside the files whose content is damaged; returns their partitions."""
        damaged = [p for p in self.find_damaged(suspects, again=True) if p not in self.damaged]
        for partition in damaged:
            path = self.folder / partition.file
            self._verified.pop(partition.file, None)
            self.damaged.add(partition)
            log.error(
                "partition %s is damaged: its %s measurements are left out; "
                "heliometer repair shows what can be saved",
                path, partition.rows,
            )  # fmt: skip
            try:
                self.quarantine.take(path, "damaged: its checksum is not the recorded one")
            except FileNotFoundError:
                pass
            except OSError as error:
                log.error("%s cannot be set aside: %s", path, error)
        return damaged

    def write(
        self, day: int, number: int, copy_to: Callable[[Path], content.Content]
    ) -> tuple[Partition, bytes]:
        """Create a partition from the Parquet file that ``copy_to`` writes.

        ``copy_to`` returns what the file says of itself; that is returned packed. The file is on
        stable storage afterwards. Raises what ``copy_to`` raises, NoContent and OSError; then no
        file is left.
        """
        file = file_name(day, number)
        temporary = self.folder / f"{file}.tmp"
        try:
            about = copy_to(temporary)
            _sync(temporary)
            digest, size = _sha256(temporary), temporary.stat().st_size
            temporary.rename(self.folder / file)
            _sync(self.folder)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return Partition(day, file, about.rows, size, digest), content.pack(about)

    def remove(self, partitions: Sequence[Partition]) -> None:
        """Remove the files of partitions, which the catalogue has replaced."""
        for partition in partitions:
            self._verified.pop(partition.file, None)
            (self.folder / partition.file).unlink(missing_ok=True)


def file_name(day: int, number: int) -> str:
    """The name of a partition's file."""
    return f"{date(day)}.{number}.parquet"


def date(day: int) -> str:
    """A day since the epoch as YYYY-MM-DD."""
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fingerprint(path: Path) -> Fingerprint:
    about = path.stat()
    return about.st_size, about.st_ino, about.st_mtime_ns, about.st_ctime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
