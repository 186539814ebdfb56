"""The feed by RabbitMQ: our durable queues, forwarded into a vhost of each project."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import quote, urlsplit

from heliometer.config import AmqpSettings
from heliometer.core.background import Supervised, Supervisor
from heliometer.core.errors import HeliometerError
from heliometer.core.retry import Backoff
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Endpoint, Subscription, Usage
from heliometer.feed.rabbitmq_forwarder import FIRST_RETRY_S, LAST_RETRY_S, Forwarder
from heliometer.feed.rabbitmq_management import Management, refused

log = logging.getLogger(__name__)


def uri(settings: AmqpSettings, endpoint: Endpoint) -> str:
    """The URI that clients connect to."""
    if settings.public_url:
        return f"{settings.public_url.rstrip('/')}/{endpoint.vhost}"
    broker = urlsplit(settings.url)
    where = broker.netloc.rpartition("@")[2]
    if broker.port is None:
        where += ":5671" if broker.scheme == "amqps" else ":5672"
    return f"{broker.scheme}://{where}/{endpoint.vhost}"


class RabbitFeed:
    """Serves endpoints from RabbitMQ. What it does not take waits in our queues."""

    def __init__(self, settings: AmqpSettings, queues: FeedHub, tasks: Supervisor) -> None:
        self._settings = settings
        self._queues = queues
        self._tasks = tasks
        self._management = Management(settings)
        self._forwarders: dict[str, Forwarder] = {}
        self._pending: dict[str, Endpoint] = {}
        """Endpoints that are yet to be set up at the broker."""
        self._reconciling: Supervised | None = None
        self._trouble = ""
        self._answered = asyncio.Event()
        """It was seen to answer: no reason to sleep until the next attempt."""

    async def start(self, endpoints: Iterable[Endpoint], *, listen: bool = True) -> None:
        """Make sure that the broker has everything, now or as soon as it answers."""
        if not listen:
            return
        for endpoint in endpoints:
            self._pending[endpoint.project_id] = endpoint
            self._forward(endpoint)
        self._reconciling = self._tasks.start(self._reconcile, "feed-endpoints")

    async def stop(self) -> None:
        """Take back what is not confirmed, and let go of the broker."""
        if self._reconciling is not None:
            await self._reconciling.stop()
        for forwarder in list(self._forwarders.values()):
            await forwarder.close()
        await self._management.close()

    async def ping(self) -> None:
        """Raise UNAVAILABLE unless the broker answers."""
        await self._management.overview()
        self._answered.set()
        if self._trouble:
            raise refused(self._trouble)

    def uri(self, endpoint: Endpoint, host: str) -> str:
        """The URI that clients connect to."""
        return uri(self._settings, endpoint)

    async def open(self, endpoint: Endpoint) -> None:
        """Make the endpoint's vhost, user, exchange and queue."""
        try:
            await self._management.provide(endpoint)
        except HeliometerError as error:
            _log_failure(error)
            raise
        self._queues.add(endpoint.project_id)
        self._forward(endpoint)

    async def reset(self, endpoint: Endpoint) -> None:
        """Give the endpoint's user another password, and end its sessions."""
        try:
            await self._management.set_password(endpoint)
        except HeliometerError as error:
            _log_failure(error)
            raise

    async def close(self, endpoint: Endpoint) -> None:
        """Remove what was made, and the messages with it."""
        try:
            await self._management.remove(endpoint)
        except HeliometerError as error:
            _log_failure(error)
            raise
        await self._drop(endpoint)

    async def stored(self, project_id: str) -> None:
        """What the database has of the project's endpoint has changed: it is known here."""

    async def follow(self, before: Endpoint | None, now: Endpoint | None) -> None:
        """Serve a project's endpoint as changed by another process, which has set it up at the
        broker already."""
        if before is not None and (now is None or now.id != before.id):
            await self._drop(before)
            before = None
        if now is not None and before is None:
            self._queues.add(now.project_id)
            self._forward(now)

    async def _drop(self, endpoint: Endpoint) -> None:
        self._pending.pop(endpoint.project_id, None)
        forwarder = self._forwarders.pop(endpoint.project_id, None)
        if forwarder is not None:
            await forwarder.close()
        await self._queues.remove(endpoint.project_id)

    async def subscribe(self, subscription: Subscription) -> None:
        """Deliver the subscription's measurements from now on."""
        self._queues.subscribe(subscription)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop delivering the subscription's measurements."""
        self._queues.unsubscribe(subscription)

    async def usage(self, project_id: str) -> Usage:
        """Counts of our queue: ``delivered`` is what the broker has confirmed."""
        return self._queues.usage(project_id)._replace(consumers=0)

    def _forward(self, endpoint: Endpoint) -> None:
        url = f"{self._settings.url.rstrip('/')}/{quote(endpoint.vhost, safe='')}"
        forwarder = Forwarder(self._queues[endpoint.project_id], url, self._tasks)
        self._forwarders[endpoint.project_id] = forwarder
        forwarder.start()

    async def _reconcile(self) -> None:
        """Make the broker match the stored endpoints, and try until it does; then rest."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while self._pending:
            try:
                for project_id, endpoint in list(self._pending.items()):
                    await self._management.provide(endpoint)
                    self._pending.pop(project_id, None)
            except HeliometerError as error:
                if not self._trouble:
                    _log_failure(error)
                self._trouble = str(error.__cause__)
                self._answered.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._answered.wait(), backoff.next_s())
        if self._trouble:
            log.info("RabbitMQ answers again")
        self._trouble = ""
        await asyncio.Event().wait()


def _log_failure(error: HeliometerError) -> None:
    log.error("%s", error.__cause__ or error.message)
