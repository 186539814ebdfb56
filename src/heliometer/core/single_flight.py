"""Concurrent callers with the same question share one answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """The questions under way, by key."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def of(self, key: K, ask: Callable[[], Awaitable[T]]) -> T:
        """The result of ``ask``, possibly one that is under way already. Raises what it raises."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(_run(ask))
            task.add_done_callback(lambda done: self._done(key, done))
        # A caller that is cancelled must not cancel the others.
        return await asyncio.shield(task)

    def _done(self, key: K, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieved, even if no caller is left


async def _run(ask: Callable[[], Awaitable[T]]) -> T:
    return await ask()
