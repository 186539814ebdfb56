"""The queues of the feed, in the process that has them."""

import asyncio
from contextlib import AsyncExitStack

from heliometer.core.instruments import Instruments
from heliometer.feed.hub import FeedHub
from heliometer.server.common import Base
from heliometer.storage.feed_sqlite.store import SqliteMessageStore

FEED_FIGURES = {
    "published": "Messages put into the queues of all projects.",
    "queued": "Messages that wait for consumers, or for their acknowledgement.",
    "delivered": "Messages that consumers acknowledged.",
    "dropped": "Messages lost to the queues' bounds.",
    "consumers": "Consumers of the built-in feed.",
}


async def open_queues(stack: AsyncExitStack, base: Base) -> tuple[FeedHub, SqliteMessageStore]:
    """The queues and what keeps them, empty still."""
    messages = SqliteMessageStore(base.settings.data_dir / "feed.sqlite")
    await asyncio.to_thread(messages.open)
    stack.push_async_callback(messages.close)
    queues = FeedHub(
        messages,
        base.series_index,
        base.clock,
        limit=base.settings.amqp.queue_messages,
        keep_s=base.settings.amqp.queue_age,
    )
    return queues, messages


def watch_feed(instruments: Instruments, queues: FeedHub) -> None:
    """Figures of the queues."""
    for name, what in FEED_FIGURES.items():
        instruments.watch(
            f"feed_{name}",
            what,
            lambda name=name: float(getattr(queues.total(), name)),  # type: ignore[misc]
        )
