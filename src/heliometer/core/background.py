"""Work in the background: started with the service, again whenever it ends, and ended with it.

Nothing else may create a task that has to last. A task that ends, for whatever reason, is logged at
once and started again after a pause; what does not stay up is shown by health and by the service's
own metrics.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.retry import Backoff

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.2, 30.0
STEADY_S = 15.0
"""A task that has run for so long is well, however often it ended before."""

Work = Callable[[], Awaitable[None]]


class Ended(Exception):
    """Work that should have lasted has returned, or was cancelled by nobody who may."""


class Life:
    """Whether one task, or several of the same name, stay up."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.name = name
        self.restarts = 0
        self._now = now
        self._running = 0
        self._failures = 0
        self._began_at = 0.0
        self._ended_at = 0.0
        self._last_error = ""

    @property
    def is_up(self) -> bool:
        """Whether it runs, and not only for a moment between two failures."""
        settled = self._failures < 2 or self._now() - max(self._began_at, self._ended_at) > STEADY_S
        return self._running > 0 and settled

    @property
    def is_down(self) -> bool:
        """Whether it ended again and again. A single restart is no reason to worry anybody."""
        return self._failures >= 2 and not self.is_up

    def began(self) -> None:
        """Note that it runs."""
        self._running += 1
        self._began_at = self._now()

    def left(self) -> None:
        """Note that it was asked to end."""
        self._running -= 1

    def ended(self, error: BaseException) -> None:
        """Note that it ended by itself, and log why; the traceback only unless the same happened
        just before."""
        now = self._now()
        self._running -= 1
        if now - max(self._began_at, self._ended_at) > STEADY_S:
            self._failures, self._last_error = 0, ""
        self._failures += 1
        self._ended_at = now
        self.restarts += 1
        known, self._last_error = self._last_error, repr(error)
        log.error(
            "task %s ended: %s; it is started again",
            self.name,
            str(error) or type(error).__name__,
            exc_info=error if error.__traceback__ and known != self._last_error else None,
        )


class Supervised:
    """One task, started again whenever it ends, until ``stop``."""

    def __init__(self, work: Work, life: Life) -> None:
        self._work = work
        self._life = life
        self._backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self._began_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False

    def begin(self) -> None:
        """Start it."""
        self._timer = None
        self._began_at = asyncio.get_running_loop().time()
        self._life.began()
        # Not a loop around the work in a task of its own: that would be one more that may end.
        self._task = asyncio.create_task(_lasting(self._work), name=self._life.name)
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = Ended("it was cancelled") if task.cancelled() else task.exception()
        assert error is not None
        if self._stopping:
            self._life.left()
            if not task.cancelled():
                log.error("task %s failed while it was stopped", self._life.name, exc_info=error)
            return
        self._life.ended(error)
        loop = asyncio.get_running_loop()
        if loop.time() - self._began_at > STEADY_S:
            self._backoff.reset()
        self._timer = loop.call_later(self._backoff.next_s(), self.begin)


class Supervisor:
    """The tasks of this process by name."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._lives: dict[str, Life] = {}

    def life(self, name: str) -> Life:
        """The record of a name, for what another task starts again itself."""
        return self._lives.setdefault(name, Life(name, self._now))

    def start(self, work: Work, name: str) -> Supervised:
        """Run ``work()``, which should not return, until the result is stopped."""
        task = Supervised(work, self.life(name))
        task.begin()
        return task

    def run(self, stack: AsyncExitStack, work: Work, name: str) -> None:
        """Run ``work()``, which should not return, until the stack is unwound, which waits for its
        end."""
        stack.push_async_callback(self.start(work, name).stop)

    def up(self) -> Mapping[str, float]:
        """1 for each task that is up, 0 for the others."""
        return {name: float(life.is_up) for name, life in self._lives.items()}

    def restarts(self) -> Mapping[str, float]:
        """How often each was started again."""
        return {name: float(life.restarts) for name, life in self._lives.items()}

    async def ping(self) -> None:
        """Health check: raise UNAVAILABLE when a task does not stay up."""
        if down := [life.name for life in self._lives.values() if life.is_down]:
            raise HeliometerError(
                Code.UNAVAILABLE,
                f"{', '.join(down)}: ended again and again; the log says why. It is tried again.",
            )


class Repeated:
    """Work to do at regular intervals, for a supervisor: one failure ends it, and it begins with
    what failed when it is started again."""

    def __init__(self, work: Work, seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._is_due = False

    async def __call__(self) -> None:
        """Do the work with that many seconds between two times, until cancelled."""
        while True:
            if not self._is_due:
                await asyncio.sleep(self._seconds)
            self._is_due = True
            await self._work()
            self._is_due = False


async def together(**works: Work) -> None:
    """Run these until the first ends, in whatever way; then cancel the others, and raise why it
    ended. Unlike in a TaskGroup, none of them can end unnoticed."""
    tasks = [
        asyncio.create_task(_lasting(work), name=name.replace("_", " "))
        for name, work in works.items()
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in tasks if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        errors = [None if task.cancelled() else task.exception() for task in tasks]
    error = errors[tasks.index(first)]
    raise error or Ended(f"{first.get_name()} was cancelled")


async def _lasting(work: Work) -> None:
    await work()
    raise Ended("it returned")
