"""Wait for a condition, never for a time.

The bound costs nothing where a test passes: it only says when to give up, and is long enough for a
slow machine that does something else besides.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
WITHIN_S = 60.0
PAUSE_S = 0.05


def eventually(
    what: Callable[[], T],
    within_s: float = WITHIN_S,
    why: Callable[[], object] | None = None,
    pause_s: float = PAUSE_S,
) -> T:
    """The first value that is true; fails, saying ``why``, when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, why() if why else f"not within {within_s:g} s"
        time.sleep(pause_s)
    return found


async def eventually_async(
    what: Callable[[], T],
    within_s: float = WITHIN_S,
    why: Callable[[], object] | None = None,
    pause_s: float = PAUSE_S,
) -> T:
    """The same while the event loop goes on."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, why() if why else f"not within {within_s:g} s"
        await asyncio.sleep(pause_s)
    return found
