"""Retries until a backend answers."""

import logging
from collections.abc import Awaitable, Callable

from heliometer.core.errors import HeliometerError
from heliometer.core.retry import Backoff

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0


async def until_done(work: Callable[[], Awaitable[None]], trouble: str) -> None:
    """Do the work, retrying while it raises HeliometerError; ``trouble`` is logged once."""
    backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
    while True:
        try:
            await work()
            return
        except HeliometerError as error:
            if not backoff.failed:
                log.error("%s: %s", trouble, error.message)
            await backoff.pause()
