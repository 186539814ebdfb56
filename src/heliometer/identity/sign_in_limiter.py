"""Limits how often passwords may be tried, and makes parallel tries wait."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from heliometer.core.errors import Code, HeliometerError
from heliometer.identity.throttle import Attempt, Throttle


class SignInLimiter:
    """A throttle whose callers wait for each other. ``monotonic`` is in seconds."""

    def __init__(self, failures: int, monotonic: Callable[[], float]) -> None:
        self._throttle = Throttle(failures, monotonic)
        self._settled = asyncio.Event()

    @asynccontextmanager
    async def admitted(self, user: str, address: str) -> AsyncIterator[Attempt]:
        """A try of a password. It counts as failed unless the block reports another result or
        raises UNAVAILABLE. Raises RATE_LIMITED after too many failures."""
        while (attempt := self._throttle.begin(user, address)) is None:
            await self._settled.wait()
        try:
            yield attempt
        except HeliometerError as error:
            if error.code is Code.UNAVAILABLE:
                attempt.withdrawn()
            raise
        finally:
            attempt.failed()  # unless another result was reported
            self._settled.set()  # those who wait now look again; later ones wait for the next event
            self._settled = asyncio.Event()
