"""A real feed without the service around it: queues in a file, and the listener on a port."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from eventually import eventually
from heliometer.feed.amqp_server.broker import Broker, Terms
from heliometer.feed.amqp_server.listener import Listener
from heliometer.feed.credentials import hash_password
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Endpoint, Subscription, Usage
from heliometer.metrics.model import Batch, Series
from heliometer.metrics.series_index import SeriesIndex
from heliometer.storage.feed_sqlite.store import SqliteMessageStore

T = TypeVar("T")

SHOP, STOCK = "a" * 32, "b" * 32
PASSWORD = "secret"
START_MS = 1_700_000_000_000
SERIES = {
    1: Series(1, SHOP, "web", (("host", "a"),)),
    2: Series(2, STOCK, "web", (("host", "a"),)),
}


class AmqpFeed:
    """Two projects, each with an endpoint and a subscription to its only series."""

    def __init__(self, folder: Path, limit: int = 100_000, terms: Terms | None = None) -> None:
        self._folder = folder
        self._limit = limit
        self._terms = terms or Terms(connections=100, per_project=20, heartbeat_s=60)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._posted = 0
        self.ahead_s = 0.0
        """How far the feed's clock is ahead of real time."""

    def start(self) -> "AmqpFeed":
        self._thread.start()
        self.run(self._start())
        return self

    def stop(self) -> None:
        """As SIGTERM does."""
        self.run(self._stop())
        self._end()

    def kill(self) -> None:
        """As SIGKILL does: nothing more is stored."""
        self.run(self.store.close())
        self.run(self.listener.close())
        self._end()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the feed's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def post(self, number: int, series: int = 1) -> None:
        """Publish measurements whose values go on counting."""
        self.run(self._post(number, series))

    def usage(self, project_id: str = SHOP) -> Usage:
        async def look() -> Usage:
            return self.queues.usage(project_id)

        return self.run(look())

    def wait(self, project_id: str = SHOP, **wanted: int) -> Usage:
        """Until the queue stands like that."""

        def wanted_usage() -> Usage | None:
            usage = self.usage(project_id)
            fits = all(getattr(usage, name) == value for name, value in wanted.items())
            return usage if fits else None

        found = eventually(wanted_usage, why=lambda: self.usage(project_id), pause_s=0.01)
        assert found is not None
        return found

    @property
    def port(self) -> int:
        port = self.listener.port
        assert port is not None
        return port

    async def _start(self) -> None:
        self.store = SqliteMessageStore(self._folder / "feed.sqlite")
        self.store.open()
        self.queues = FeedHub(
            self.store,
            SeriesIndex(SERIES.values(), 100),
            lambda: time.time() + self.ahead_s,
            limit=self._limit,
            keep_s=86_400,
        )
        subscriptions = [
            Subscription(s.project_id, "e", s.project_id, s.namespace, s.dimensions, 0)
            for s in SERIES.values()
        ]
        await self.queues.load([SHOP, STOCK], subscriptions)
        self.broker = Broker(self.queues, self._terms)
        for project_id in (SHOP, STOCK):
            self.broker.admit(Endpoint("e", project_id, hash_password(PASSWORD), 0))
        self.listener = Listener(self.broker)
        await self.listener.open("127.0.0.1", 0, None)

    async def _stop(self) -> None:
        await self.listener.close()
        await self.queues.close()
        await self.store.close()

    async def _post(self, number: int, series: int) -> None:
        count = np.arange(self._posted, self._posted + number)
        self._posted += number
        batch = Batch(
            np.full(number, series, np.int64), START_MS + count * 1000, count.astype(np.float64)
        )
        await self.queues.commit(await self.queues.prepare(0, batch))

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def settle(work: Awaitable[T]) -> T:
    """With a deadline that only a fault reaches."""
    return await asyncio.wait_for(work, 20)
