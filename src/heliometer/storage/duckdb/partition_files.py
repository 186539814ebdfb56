"""The files of partitions: checks, writes and removes them, and sets damaged ones aside."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from heliometer.storage.duckdb.sources import Partition, Sources

log = logging.getLogger(__name__)


class PartitionFiles:
    """The folder of partitions within the store's ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._store = folder
        self.folder = folder / "partitions"
        self.damaged: set[Partition] = set()
        """Partitions that are left out."""

    def path(self, file: str) -> str:
        """The path of a partition's file."""
        return str(self.folder / file)

    def check(self, sources: Sources) -> Sources:
        """After opening: remove unused files, and leave out damaged partitions."""
        for left in self._store.glob("backup-*"):
            shutil.rmtree(left, ignore_errors=True)  # left by an interrupted backup
        named = {p.file: p for p in sources.partitions}
        for path in self.folder.iterdir():
            if path.suffix in (".parquet", ".tmp") and path.name not in named:
                path.unlink()  # left by an interrupted sealing, or replaced by a merge
        whole = []
        for partition in sources.partitions:
            path = self.folder / partition.file
            size = path.stat().st_size if path.exists() else -1
            if size == partition.bytes:
                whole.append(partition)
                continue
            log.error(
                "partition %s is damaged (%s bytes instead of %s): its measurements are left out",
                path, max(size, 0), partition.bytes,
            )  # fmt: skip
            self.damaged.add(partition)
            if size >= 0:
                path.rename(path.with_suffix(".damaged"))
        return Sources(sources.tables, tuple(whole))

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
        problems += [f"{path} was set aside as damaged" for path in self.folder.glob("*.damaged")]
        return problems

    def set_aside_damaged(self, suspects: Sequence[Partition]) -> list[Partition]:
        """Rename the files whose content is damaged; returns their partitions."""
        damaged = []
        for partition in suspects:
            path = self.folder / partition.file
            try:
                if _sha256(path) == partition.sha256:
                    continue
                path.rename(path.with_suffix(".damaged"))
            except FileNotFoundError:
                pass
            except OSError as error:
                log.error("partition %s cannot be read: %s", path, error)
                continue
            log.error("partition %s is damaged: its measurements are left out", path)
            damaged.append(partition)
        self.damaged.update(damaged)
        return damaged

    def write(self, day: int, number: int, copy_to: Callable[[Path], int]) -> Partition:
        """Create a partition from the file that ``copy_to`` writes; it returns the number of rows.
        The file is on stable storage afterwards. Raises what ``copy_to`` raises, and OSError; then
        no file is left."""
        file = f"{date(day)}.{number}.parquet"
        temporary = self.folder / f"{file}.tmp"
        try:
            rows = copy_to(temporary)
            _sync(temporary)
            digest, size = _sha256(temporary), temporary.stat().st_size
            temporary.rename(self.folder / file)
            _sync(self.folder)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return Partition(day, file, rows, size, digest)

    def remove(self, partitions: Sequence[Partition]) -> None:
        """Remove the files of partitions."""
        for partition in partitions:
            (self.folder / partition.file).unlink(missing_ok=True)


def date(day: int) -> str:
    """A day since the epoch as YYYY-MM-DD."""
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
