"""What each sealed partition carries of itself, so that the catalogue can be made again from the
partitions alone, and what is whole can be told from what is damaged.

It lies between Parquet's last row group and its footer, where Parquet allows any bytes: the series,
as compressed JSON; then the rest, likewise, with its SHA-256, its length and a mark. Readers of
Parquet do not see it, and no query reads it. The catalogue keeps a copy of all but the series.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

MARK = b"HELIOMETER-PART1"
PARQUET = b"PAR1"
_END = struct.Struct("<32sQ16s")


class NoContent(Exception):
    """The file does not say what is in it, or that is damaged."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A piece of the file."""

    start: int
    end: int
    sha256: str


class RowGroup(Piece, frozen=True, array_like=True):
    """A row group, and which rows it has."""

    first_row: int
    rows: int


class SeriesEntry(msgspec.Struct, frozen=True, array_like=True):
    """A series as the catalogue has it."""

    id: int
    project_id: str
    namespace: str
    dimensions: str
    """JSON, as the catalogue has it."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Of what day a partition is, what it was made of, and how to check it."""

    day: int
    file: str
    rows: int = 0
    tables: tuple[str, ...] = ()
    """The tables whose measurements it took over."""
    replaces: tuple[str, ...] = ()
    """The partitions whose place it takes."""
    groups: tuple[RowGroup, ...] = ()
    series: Piece = Piece(0, 0, "")
    footer_start: int = 0
    """Not known in the file itself."""
    footer: bytes = b""
    """Parquet's footer, to the end of the file."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What is whole of a partition."""

    content: Content
    whole: tuple[RowGroup, ...]
    footer: bool
    series: tuple[SeriesEntry, ...] | None
    """``None``: damaged."""

    @property
    def rows(self) -> int:
        """How many measurements are whole."""
        return sum(group.rows for group in self.whole)


def add(
    path: Path, groups: Sequence[tuple[int, int]], series: Sequence[SeriesEntry], about: Content
) -> Content:
    """Put ``about``, completed, and the series into a Parquet file that has neither.

    ``groups``: where each row group begins, and its number of rows. Raises OSError, NoContent.
    """
    with path.open("r+b") as file:
        end = _footer_start(file)
        found, row = [], 0
        for number, (start, rows) in enumerate(groups):
            stop = groups[number + 1][0] if number + 1 < len(groups) else end
            found.append(RowGroup(start, stop, _sha256(file, start, stop), row, rows))
            row += rows
        file.seek(end)
        footer = file.read()
        names = zlib.compress(msgspec.json.encode(series), 6)
        content = msgspec.structs.replace(
            about,
            rows=row,
            groups=tuple(found),
            series=Piece(end, end + len(names), hashlib.sha256(names).hexdigest()),
            footer=footer,
        )
        packed = pack(content)
        file.seek(end)
        file.write(names + packed)
        file.write(_END.pack(hashlib.sha256(packed).digest(), len(packed), MARK))
        start = file.tell()
        file.write(footer)
        return msgspec.structs.replace(content, footer_start=start)


def pack(content: Content) -> bytes:
    """All but the series, compressed."""
    return zlib.compress(msgspec.json.encode(content), 6)


def unpack(packed: bytes) -> Content:
    """The reverse of ``pack``. Raises NoContent."""
    try:
        return msgspec.json.decode(zlib.decompress(packed), type=Content)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise NoContent(f"what it says of itself cannot be read: {error}") from error


def read(path: Path) -> Content:
    """What a partition says of itself. Raises NoContent, OSError."""
    with path.open("rb") as file:
        try:
            end = _footer_start(file)
            file.seek(max(0, end - len(MARK)))
            found = file.read(len(MARK)) == MARK
        except NoContent:
            found = False
        if not found:  # its end is damaged or cut off
            file.seek(0)
            end = file.read().rfind(MARK) + len(MARK)
        if end < _END.size:
            raise NoContent("it does not say what is in it")
        file.seek(end - _END.size)
        digest, size, mark = _END.unpack(file.read(_END.size))
        if mark != MARK:
            raise NoContent("it does not say what is in it")
        if size > end - _END.size:
            raise NoContent("what it says of itself is damaged")
        file.seek(end - _END.size - size)
        packed = file.read(size)
        if hashlib.sha256(packed).digest() != digest:
            raise NoContent("what it says of itself is damaged")
        return msgspec.structs.replace(unpack(packed), footer_start=end)


def examine(path: Path, known: Content | None = None) -> Examined:
    """Which parts of a partition are whole. ``known``: the catalogue's copy of what the file says
    of itself. Raises NoContent, OSError."""
    content = known or read(path)
    with path.open("rb") as file:
        whole = [g for g in content.groups if _sha256(file, g.start, g.end) == g.sha256]
        file.seek(content.footer_start)
        footer = file.read() == content.footer
        file.seek(0)
        footer &= file.read(4) == PARQUET
        names = content.series
        series: tuple[SeriesEntry, ...] | None = None
        if _sha256(file, names.start, names.end) == names.sha256:
            file.seek(names.start)
            packed = file.read(names.end - names.start)
            series = msgspec.json.decode(zlib.decompress(packed), type=tuple[SeriesEntry, ...])
    return Examined(content, tuple(whole), footer, series)


def read_series(path: Path) -> tuple[SeriesEntry, ...]:
    """The series of a whole partition. Raises NoContent, OSError."""
    names = read(path).series
    with path.open("rb") as file:
        file.seek(names.start)
        packed = file.read(names.end - names.start)
    try:
        return msgspec.json.decode(zlib.decompress(packed), type=tuple[SeriesEntry, ...])
    except (zlib.error, msgspec.MsgspecError) as error:
        raise NoContent(f"what it says of its series cannot be read: {error}") from error


def write_readable(path: Path, content: Content, target: Path) -> None:
    """Copy a damaged partition to ``target``, with the beginning and the end that Parquet needs;
    row groups stay as they are. Raises OSError."""
    with path.open("rb") as file, target.open("wb") as out:
        rest = content.footer_start
        while rest and (some := file.read(min(1 << 20, rest))):
            out.write(some)
            rest -= len(some)
        out.seek(0)
        out.write(PARQUET)
        out.seek(content.footer_start)
        out.write(content.footer)


def _footer_start(file: BinaryIO) -> int:
    size = file.seek(0, 2)
    if size < 12:
        raise NoContent("it is too short")
    file.seek(size - 8)
    tail = file.read(8)
    start = size - 8 - int(struct.unpack("<I", tail[:4])[0])
    if tail[4:] != PARQUET or start < 4:
        raise NoContent("its footer is damaged")
    return start


def _sha256(file: BinaryIO, start: int, end: int) -> str:
    digest = hashlib.sha256()
    file.seek(start)
    while start < end and (piece := file.read(min(1 << 20, end - start))):
        digest.update(piece)
        start += len(piece)
    return digest.hexdigest() if start == end else ""
