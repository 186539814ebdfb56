"""Whether each back end works: a real read and write of each, within a deadline."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

log = logging.getLogger(__name__)

DEADLINE_S = 2.0
GOOD_FOR_S = 1.0
"""How long an answer is reused, so that many callers cost no more than one."""

Probe = Callable[[], Awaitable[None]]


class Health:
    """Probes back ends by name. ``elsewhere`` returns what other processes found."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        clock: Callable[[], float],
        elsewhere: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._probes = probes
        self._elsewhere = elsewhere
        self._clock = clock
        self._failed: dict[str, str] = {}
        self._probed_at = float("-inf")
        self._lock = asyncio.Lock()
        self._leaving = False

    @property
    def leaving(self) -> bool:
        """Whether this process is about to stop, so that callers should use another."""
        return self._leaving

    def leave(self) -> None:
        """Report from now on that this process is about to stop."""
        self._leaving = True

    async def failed(self) -> dict[str, str]:
        """The back ends that do not work, and why, in words that may be public; empty if all do."""
        return {**self._elsewhere(), **(await self.failed_here())}

    async def failed_here(self) -> dict[str, str]:
        """The same, as found by this process alone."""
        async with self._lock:
            if self._clock() - self._probed_at > GOOD_FOR_S:
                found = await asyncio.gather(*(self._probe(n) for n in self._probes))
                self._failed = {n: r for n, r in zip(self._probes, found, strict=True) if r}
                self._probed_at = self._clock()
            return self._failed

    async def _probe(self, name: str) -> str:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._probes[name]()
        except TimeoutError:
            return f"did not answer within {DEADLINE_S:g} s"
        except Exception as error:
            log.warning("health: %s failed: %s", name, error)
            return str(getattr(error, "message", "failed; the log says why"))
        return ""
