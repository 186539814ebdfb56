"""Decodes bodies without holding up other requests: bounds on what is in them, and threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.keyed_lock import KeyedLock

INLINE_BYTES = 32 << 10
"""A larger body is not decoded on the event loop, unless its decoder is known to be quick."""
MOST_VALUES = 1_000_000
"""Most values in one document; an ordinary body of 16 MiB has fewer. Without a bound, 16 KiB of
gzip are five million empty arrays, each an object."""
MOST_FIELDS = 4_000_000
"""Most length-delimited fields in one protobuf message; 100 000 samples with labels have fewer."""
THREADS = 4

T = TypeVar("T")


def check_values(body: bytes) -> None:
    """Raise TOO_LARGE for JSON with more values than MOST_VALUES. Text with commas counts too."""
    if len(body) > MOST_VALUES and _count(body, b",[{") > MOST_VALUES:
        raise _too_many(MOST_VALUES, "values")


def check_fields(body: bytes, tags: bytes) -> None:
    """Raise TOO_LARGE for protobuf in which bytes that begin a field of these ``tags`` are more
    than MOST_FIELDS."""
    if len(body) > MOST_FIELDS and _count(body, tags) > MOST_FIELDS:
        raise _too_many(MOST_FIELDS, "fields")


def _count(body: bytes, marks: bytes) -> int:
    """How often any of these bytes occurs."""
    array = np.frombuffer(body, np.uint8)
    return sum(int(np.count_nonzero(array == mark)) for mark in marks)


def _too_many(most: int, what: str) -> HeliometerError:
    return HeliometerError(
        Code.TOO_LARGE,
        f"There are more than {most} {what} in the body.",
        details="Send fewer in one request.",
    )


class Decoder:
    """Decodes large bodies in a few threads, one of each project at a time, so that no project
    keeps the others waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
        self._turns = KeyedLock()

    async def run(self, project_id: str, decode: Callable[[], T]) -> T:
        """The result of ``decode``, called in a thread."""
        async with self._turns.of(project_id):
            return await asyncio.get_running_loop().run_in_executor(self._threads, decode)
