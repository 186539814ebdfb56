"""Where whoever tries a password waits for its turn."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.throttle import Attempt, Throttle


class SignInLimiter:
    """A throttle with its waiting room. ``monotonic`` is in seconds."""

    def __init__(self, failures: int, monotonic: Callable[[], float]) -> None:
        self._throttle = Throttle(failures, monotonic)
        self._settled = asyncio.Event()

    @asynccontextmanager
    async def admitted(self, user: str, address: str) -> AsyncIterator[Attempt]:
        """A try of a password, which has failed unless the block says otherwise, or raises
        UNAVAILABLE. Raises RATE_LIMITED when there were too many."""
        while (attempt := self._throttle.begin(user, address)) is None:
            await self._settled.wait()
        try:
            yield attempt
        except HeliometerError as error:
            if error.code is Code.UNAVAILABLE:
                attempt.withdrawn()
            raise
        finally:
            attempt.failed()  # Unless it was settled before.
            self._settled.set()  # Whoever waits looks again; the next wait for the next event.
            self._settled = asyncio.Event()
