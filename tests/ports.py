"""Ports for servers of tests, that stay free while their server is down.

They lie below the range that the kernel picks ports of clients from, in a block that this process
has for itself: however many test runs and workers there are on a machine, none takes another's.
"""

import contextlib
import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

BLOCKS = range(20_000, 32_000, 1000)
SIZE = 1000
FOLDER = Path(tempfile.gettempdir()) / f"heliometer-test-ports-{os.getuid()}"
_held: list[IO[str]] = []
"""Locked for as long as this process lives."""


def free_port() -> int:
    """A port that nobody listens on."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for _ in range(SIZE // count + 1):
        first = _next(count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise RuntimeError("no free ports")


def _next(count: int) -> int:
    """Those that were handed out longest ago."""
    numbers, block = _numbers(), _block()
    while True:
        offset = next(numbers)
        if offset + count <= SIZE:
            for _ in range(count - 1):
                next(numbers)
            return block + offset


@cache
def _numbers() -> Iterator[int]:
    return itertools.cycle(range(SIZE))


@cache
def _block() -> int:
    """The first block that nobody has."""
    FOLDER.mkdir(exist_ok=True)
    for block in BLOCKS:
        with contextlib.suppress(OSError):
            file = (FOLDER / str(block)).open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                continue
            _held.append(file)
            return block
    raise RuntimeError(f"all blocks of {FOLDER} are taken")
