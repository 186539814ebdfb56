"""Work in the background, ended with the service."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

log = logging.getLogger(__name__)


def background(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    """Run ``work`` until the stack is unwound, which waits for its end."""
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)


async def repeat(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Call ``work`` with that many seconds between two calls; what it raises is logged."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:
            log.exception("upkeep failed; it is tried again in %s s", seconds)
