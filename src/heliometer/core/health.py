"""What works, as found here: a real read and write of each back end, within a deadline."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

DEADLINE_S = 2.0
GOOD_FOR_S = 1.0
"""How long an answer is reused, so that many callers cost no more than one."""

Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Report:
    """What does not work, and why, in words that may be public."""

    failed: Mapping[str, str] = field(default_factory=dict)
    """What this process needs to answer."""
    degraded: Mapping[str, str] = field(default_factory=dict)
    """What others do, or what goes outward: callers are served all the same."""

    @property
    def everything(self) -> dict[str, str]:
        """Both."""
        return {**self.degraded, **self.failed}


class Health:
    """Probes by name: of what this process ``needed`` to answer its API, of ``others`` that callers
    do not wait for, and of what it needs to answer ``reads``.

    ``elsewhere`` returns what other processes found.
    """

    def __init__(
        self,
        needed: Mapping[str, Probe],
        others: Mapping[str, Probe],
        reads: Mapping[str, Probe],
        clock: Callable[[], float],
        elsewhere: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._needed = needed
        self._elsewhere = elsewhere
        self._probes = _Probes({**others, **needed}, clock)
        self._reads = _Probes(reads, clock)
        self._leaving = False

    @property
    def leaving(self) -> bool:
        """Whether this process is about to stop, so that callers should use another."""
        return self._leaving

    def leave(self) -> None:
        """Report from now on that this process is about to stop."""
        self._leaving = True

    async def report(self) -> Report:
        """What does not work, here and elsewhere."""
        found = await self._probes.failed()
        return Report(
            failed={name: why for name, why in found.items() if name in self._needed},
            degraded={
                **self._elsewhere(),
                **{name: why for name, why in found.items() if name not in self._needed},
            },
        )

    async def failed_here(self) -> dict[str, str]:
        """What does not work as found by this process alone."""
        return await self._probes.failed()

    async def unreadable(self) -> dict[str, str]:
        """What keeps this process from answering reads."""
        return await self._reads.failed()


class _Probes:
    """Probes that are run together, and whose answers are reused for a moment."""

    def __init__(self, probes: Mapping[str, Probe], clock: Callable[[], float]) -> None:
        self._probes = probes
        self._clock = clock
        self._failed: dict[str, str] = {}
        self._probed_at = float("-inf")
        self._lock = asyncio.Lock()

    async def failed(self) -> dict[str, str]:
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
