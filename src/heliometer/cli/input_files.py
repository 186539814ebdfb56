"""Files of measurements, read as often as needed: plain or gzip, on disk or from a pipe."""

import gzip
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from heliometer.cli.errors import CommandError
from heliometer.cli.file_rows import Fault, Filling, Reader, Row

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
GZIP = b"\x1f\x8b"
REPORT_BYTES = 1 << 16
"""Bytes between two reports of progress."""

Progress = Callable[[int], object]
"""Called with the bytes read since the last call."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input. ``spool`` holds what cannot be read twice."""

    name: str
    stem: str
    """The file's name without its suffixes; empty for standard input."""
    format: str
    size: int
    path: Path | None
    spool: BinaryIO | None = None

    def read(self, filling: Filling, progress: Progress) -> Iterator[tuple[Reader, Row | Fault]]:
        """Every measurement or fault, with the reader that knows the series.

        Raises CommandError when the file cannot be read.
        """
        reader = Reader(filling)
        try:
            with self._open() as raw:
                stream = self._inflated(raw)
                if self.format == "csv":
                    # Bytes that are no UTF-8 become surrogates, which no rule allows in a name or
                    # number: the fault then has its line.
                    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
                    rows = reader.csv(text)
                else:
                    rows = reader.json_lines(stream)
                reported = 0
                for row in rows:
                    at = raw.tell()
                    if at - reported >= REPORT_BYTES:
                        progress(at - reported)
                        reported = at
                    yield reader, row
                progress(self.size - reported)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CommandError(f"{self.name} is not complete and valid gzip: {error}") from error
        except OSError as error:
            raise CommandError(f"cannot read {self.name}: {error.strerror or error}") from error

    def _inflated(self, raw: BinaryIO) -> BinaryIO:
        zipped = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        return gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[return-value]

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if self.spool is not None:
            self.spool.seek(0)
            # A second view, so that closing the text layer leaves the spool open.
            with open(self.spool.fileno(), "rb", closefd=False) as view:
                yield view
        else:
            assert self.path is not None
            with self.path.open("rb") as file:
                yield file


def open_source(argument: str, given_format: str | None) -> Source:
    """The source that an argument names; ``-`` is standard input. Raises CommandError."""
    path = Path(argument)
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = given_format or (FORMATS.get(suffixes[-1], "") if suffixes else "")
    if not kind:
        name = "standard input" if argument == "-" else argument
        raise CommandError(
            f"cannot detect the format of {name}; use --format csv or --format jsonl"
        )
    if argument == "-":
        return _spooled("standard input", "", kind, sys.stdin.buffer)
    try:
        if path.is_dir():
            raise CommandError(f"{path} is a folder; give its files")
        if path.exists() and not path.is_file():
            with path.open("rb") as pipe:
                return _spooled(str(path), "", kind, pipe)
        size = path.stat().st_size
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    stem = path.name
    for suffix in (".gz", path.suffixes[-1], *FORMATS):
        stem = stem.removesuffix(suffix)
    return Source(str(path), stem, kind, size, path)


def _spooled(name: str, stem: str, kind: str, pipe: BinaryIO) -> Source:
    # The file is removed when the process ends; nothing of it is sent before all was checked.
    spool = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(pipe, spool, 1 << 20)
    spool.flush()
    return Source(name, stem, kind, spool.tell(), None, spool)
