"""Looking through many things without keeping everybody else waiting."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

MANY = 20_000
"""To look through fewer takes a few milliseconds at most."""


async def aside(number: int, work: Callable[[], T]) -> T:
    """The result of ``work``, which looks through ``number`` things: in a thread if they are many.
    It must bear that those grow meanwhile."""
    if number <= MANY:
        return work()
    return await asyncio.to_thread(work)
