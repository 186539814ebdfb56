"""One answer for all who ask the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Questions under way, by what they are about."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def of(self, key: K, ask: Callable[[], Awaitable[T]]) -> T:
        """What ``ask`` answers, or answers already to somebody else; raises what it raises."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(_run(ask))
            task.add_done_callback(lambda done: self._done(key, done))
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    def _done(self, key: K, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # Seen, though everyone who waited may have gone.


async def _run(ask: Callable[[], Awaitable[T]]) -> T:
    return await ask()
