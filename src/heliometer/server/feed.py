"""The queues of the feed and what serves them, in the process that has them."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from heliometer.core.background import Repeated
from heliometer.core.instruments import Instruments
from heliometer.feed import Feed, load_feed
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Endpoint, Subscription
from heliometer.server.common import Base
from heliometer.server.project_watch import LOOK_S, ProjectWatch
from heliometer.storage.feed_sqlite.store import SqliteMessageStore
from heliometer.storage.sql.projects import SqlProjectStore

FEED_COUNTS = {
    "published": "Messages put into the queues of all projects.",
    "delivered": "Messages that consumers acknowledged.",
    "dropped": "Messages lost to the queues' bounds.",
}
FEED_FIGURES = {
    "queued": "Messages that wait for consumers, or for their acknowledgement.",
    "consumers": "Consumers of the built-in feed.",
}


@dataclass(frozen=True, slots=True)
class ServedFeed:
    """What this process has of the feed."""

    queues: FeedHub
    messages: SqliteMessageStore
    server: Feed
    endpoints: Sequence[Endpoint]
    """Those that there were when it was opened."""

    async def start(self, stack: AsyncExitStack, base: Base, *, listen: bool) -> None:
        """Look after the queues, and let clients in if ``listen``."""
        base.tasks.run(stack, self.queues.run, "feed-upkeep")
        await self.server.start(self.endpoints, listen=listen)
        projects = SqlProjectStore(base.resources)
        watch = ProjectWatch(self.server, base.feed.load_endpoints, projects.enabled)
        base.tasks.run(stack, Repeated(watch.look, LOOK_S), "project-watch")


async def open_feed(
    stack: AsyncExitStack, base: Base, subscriptions: Iterable[Subscription]
) -> ServedFeed:
    """Open the queues where they were left; clients are not admitted before ``start``."""
    settings = base.settings
    messages = SqliteMessageStore(settings.data_dir / "feed.sqlite")
    await asyncio.to_thread(messages.open)
    stack.push_async_callback(messages.close)
    queues = FeedHub(
        messages,
        base.series_index,
        base.clock,
        limit=settings.amqp.queue_messages,
        keep_s=settings.amqp.queue_age,
    )
    stack.push_async_callback(queues.close)
    endpoints = await base.feed.load_endpoints()
    await queues.load([e.project_id for e in endpoints], subscriptions)
    server = load_feed(settings.amqp, queues, base.tasks, base.quotas.refused)
    stack.push_async_callback(server.stop)
    _watch(base.instruments, queues)
    return ServedFeed(queues, messages, server, endpoints)


def _watch(instruments: Instruments, queues: FeedHub) -> None:
    def read(name: str) -> float:
        return float(getattr(queues.total(), name))

    for name, what in FEED_COUNTS.items():
        instruments.count(f"feed_{name}_total", what, partial(read, name))
    for name, what in FEED_FIGURES.items():
        instruments.watch(f"feed_{name}", what, partial(read, name))
