"""Tries again until a backend answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from heliometer.core.errors import HeliometerError

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0


async def until_done(work: Callable[[], Awaitable[None]], trouble: str) -> None:
    """Do the work, again and again while it raises a fault of ours; ``trouble`` is logged once."""
    delay, told = FIRST_RETRY_S, False
    while True:
        try:
            await work()
            return
        except HeliometerError as error:
            if not told:
                log.error("%s: %s", trouble, error.message)
            told = True
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY_S)
