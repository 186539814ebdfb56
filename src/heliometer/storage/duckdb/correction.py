"""Corrects a single wrong byte by the checksum of what it is in, and copies a database so that what
is damaged in its file and its log is corrected or left out."""

import os
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from heliometer.storage.duckdb import write_ahead_log
from heliometer.storage.duckdb.log_mark import HEADERS_END, LogMark
from heliometer.storage.duckdb.write_ahead_log import checksum

HEADERS = (0, 4096, 8192)
HEADER = 4096
BLOCKS_AT = HEADERS_END
BLOCK = 262_144
_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_FRAME = struct.Struct("<QQ")


@dataclass(slots=True)
class Copied:
    """What was found while a database was copied."""

    corrected: int = 0
    """Places in which one byte was wrong, and is right again."""
    notes: list[str] = field(default_factory=list)
    log_lost: bool = False
    """Acknowledged transactions of the log are lost."""


def correct(raw: bytearray, expected: int) -> bool:
    """Make the checksum of ``raw`` right by one byte, where only one byte can be the wrong one;
    whether that was possible."""
    difference = np.uint64(checksum(raw) ^ expected)
    words = np.frombuffer(raw, dtype="<u8", count=len(raw) // 8)
    found: list[tuple[int, int]] = []
    with np.errstate(over="ignore"):
        products = words * _FACTOR
        for shift in range(0, 64, 8):
            for byte in range(1, 256):
                flipped = words ^ np.uint64(byte << shift)
                at = np.flatnonzero((flipped * _FACTOR ^ products) == difference)
                found += [(int(i) * 8 + shift // 8, byte) for i in at]
                if len(found) > 1:
                    return False
    in_checksum = any(int(difference) & ~(0xFF << shift) == 0 for shift in range(0, 64, 8))
    if len(found) + in_checksum != 1:
        return False
    for place, byte in found:
        raw[place] ^= byte
    return True


def copy_corrected(database: Path, target: Path, *, prefix: bool = False) -> Copied:
    """Copy a database and its log to ``target``, corrected as far as possible. ``prefix``: of the
    log, only what is before the first damaged transaction. Raises OSError."""
    found = Copied()
    shutil.copyfile(database, target)
    with target.open("r+b") as file:
        size = file.seek(0, 2)
        places = [(at, HEADER) for at in HEADERS]
        places += [(at, BLOCK) for at in range(BLOCKS_AT, size, BLOCK)]
        broken = []
        for at, length in places:
            file.seek(at)
            raw = bytearray(file.read(length))
            if len(raw) < length:
                broken.append(at)
                continue
            (expected,) = struct.unpack_from("<Q", raw)
            content = raw[8:]
            if checksum(content) == expected:
                continue
            if not any(content) and not expected:
                continue  # never written
            if correct(content, expected):
                file.seek(at)
                file.write(struct.pack("<Q", checksum(content)) + content)
                found.corrected += 1
            else:
                broken.append(at)
        _restore_headers(database, file, [at for at in broken if at in HEADERS], found)
        damaged = [at for at in broken if at >= BLOCKS_AT]
        if damaged:
            found.notes.append(f"{len(damaged)} blocks of {database.name} may be damaged")
    _copy_log(database, target, found, prefix)
    return found


def _restore_headers(database: Path, file: BinaryIO, broken: Sequence[int], found: Copied) -> None:
    """The first header never changes: the mark has a copy. Of the two others, which are written in
    turn, one is enough."""
    if not broken:
        return
    found.notes.append(f"a header of {database.name} is damaged")
    copy = LogMark(database).headers()
    for at in broken:
        if at == HEADERS[0]:
            source = copy[:HEADER] if copy else b""
        else:
            other = HEADERS[1] + HEADERS[2] - at
            file.seek(other)
            source = file.read(HEADER) if other not in broken else b""
        if source:
            file.seek(at)
            file.write(source)
            found.corrected += 1


def _copy_log(database: Path, target: Path, found: Copied, prefix: bool) -> None:
    wal = database.with_name(f"{database.name}.wal")
    copy = target.with_name(f"{target.name}.wal")
    claim = LogMark(database).read()
    claimed = claim.length if claim else 0
    raw = bytearray(wal.read_bytes()) if wal.exists() else bytearray()
    if len(raw) < claimed:
        found.notes.append(
            f"the log ends {claimed - len(raw)} bytes early: what these held is lost"
        )
        found.log_lost = True
    if not raw:
        return
    if claim and claimed and raw[: len(claim.beginning)] != claim.beginning:
        raw[: len(claim.beginning)] = claim.beginning[: len(raw)]
        found.notes.append("the beginning of the log was damaged, and is right again")
    _correct_entries(raw, found)
    copy.write_bytes(raw)
    log = write_ahead_log.read(copy)
    whole = [t for t in log.transactions if t.whole]
    if prefix:
        first = min((t.start for t in log.transactions if not t.whole), default=len(raw))
        whole = [t for t in whole if t.start < first]
    lost = [t for t in log.transactions if not t.whole and t.start < max(claimed, log.whole_end)]
    if lost:
        found.notes.append(
            f"{len(lost)} of {len(log.transactions)} transactions of the log are damaged: what "
            "these held is lost"
        )
        found.log_lost = True
    with copy.open("wb") as file:
        file.write(raw[: log.head])
        for transaction in whole:
            file.write(raw[transaction.start : transaction.end])
        os.fsync(file.fileno())


def _correct_entries(raw: bytearray, found: Copied) -> None:
    """Correct entries of the log in which one byte is wrong, the length of an entry excepted."""
    end = write_ahead_log.END_OF_TRANSACTION
    head = write_ahead_log.head_length(bytes(raw))
    at = head if head is not None else len(raw)
    while at + len(end) <= len(raw):
        piece = raw[at : at + len(end)]
        if sum(a != b for a, b in zip(piece, end, strict=True)) == 1:
            raw[at : at + len(end)] = end
            found.corrected += 1
        size, expected = _FRAME.unpack_from(raw, at)
        stop = at + _FRAME.size + size
        if stop > len(raw):
            stop = raw.find(end, at)
            if stop < 0:
                return
            at = stop
            continue
        content = raw[at + _FRAME.size : stop]
        if checksum(content) != expected and size and correct(content, expected):
            raw[at:stop] = _FRAME.pack(size, checksum(content)) + content
            found.corrected += 1
        at = stop
