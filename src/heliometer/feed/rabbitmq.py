"""The feed by RabbitMQ: our durable queues, forwarded into a vhost of each project."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import aiormq
from pamqp import commands

from heliometer.config import AmqpSettings
from heliometer.core.errors import HeliometerError
from heliometer.core.retry import Backoff
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import EXCHANGE, Endpoint, Subscription, Usage
from heliometer.feed.queue import Message, Queue
from heliometer.feed.rabbitmq_management import Management, refused

log = logging.getLogger(__name__)

WINDOW = 1000
"""The most messages of a project that are sent and not confirmed."""
IDLE_S = 60.0
"""A connection that is idle for so long is closed."""
CONNECT_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0


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

    def __init__(self, settings: AmqpSettings, queues: FeedHub) -> None:
        self._settings = settings
        self._queues = queues
        self._management = Management(settings)
        self._forwarders: dict[str, Forwarder] = {}
        self._pending: dict[str, Endpoint] = {}
        """Endpoints that the broker is to be told of."""
        self._reconciling: asyncio.Task[None] | None = None
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
        self._reconciling = asyncio.create_task(self._reconcile(), name="rabbitmq")

    async def stop(self) -> None:
        """Take back what is not confirmed, and let go of the broker."""
        if self._reconciling is not None:
            self._reconciling.cancel()
            with suppress(asyncio.CancelledError):
                await self._reconciling
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
            _tell(error)
            raise
        self._queues.add(endpoint.project_id)
        self._forward(endpoint)

    async def reset(self, endpoint: Endpoint) -> None:
        """Give the endpoint's user another password, and end its sessions."""
        try:
            await self._management.set_password(endpoint)
        except HeliometerError as error:
            _tell(error)
            raise

    async def close(self, endpoint: Endpoint) -> None:
        """Remove what was made, and the messages with it."""
        try:
            await self._management.remove(endpoint)
        except HeliometerError as error:
            _tell(error)
            raise
        await self._drop(endpoint)

    async def stored(self, project_id: str) -> None:
        """What the database has of the project's endpoint has changed: it is known here."""

    async def follow(self, before: Endpoint | None, now: Endpoint | None) -> None:
        """Serve a project's endpoint as another process has changed it: that one has told the
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
        forwarder = Forwarder(self._queues[endpoint.project_id], url)
        self._forwarders[endpoint.project_id] = forwarder
        forwarder.start()

    async def _reconcile(self) -> None:
        """Make the broker match the stored endpoints, and try until it does."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while self._pending:
            try:
                for project_id, endpoint in list(self._pending.items()):
                    await self._management.provide(endpoint)
                    self._pending.pop(project_id, None)
            except HeliometerError as error:
                if not self._trouble:
                    _tell(error)
                self._trouble = str(error.__cause__)
                self._answered.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._answered.wait(), backoff.next_s())
        if self._trouble:
            log.info("RabbitMQ answers again")
        self._trouble = ""


class Forwarder:
    """A consumer of one of our queues that publishes its messages to RabbitMQ.

    It connects when there is something to send. Messages that were not confirmed when the
    connection is lost are returned to the queue.
    """

    def __init__(self, queue: Queue, url: str) -> None:
        self._queue = queue
        self._url = url
        self._channel: Any = None
        self._unconfirmed = 0
        self._sent = 0
        self._needed = asyncio.Event()
        self._publishing: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start consuming."""
        self._running = asyncio.create_task(self._run(), name="feed forwarder")
        self._queue.attach(self)

    async def close(self) -> None:
        """Stop consuming; what is not confirmed returns to the queue."""
        self._queue.detach(self)
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    def room(self) -> int:
        """No room without a connection; the question is the reason to make one."""
        if self._channel is None:
            self._needed.set()
            return 0
        return WINDOW - self._unconfirmed

    def take(self, messages: Sequence[Message]) -> None:
        """Publish messages, in their order."""
        self._unconfirmed += len(messages)
        self._sent += len(messages)
        task = asyncio.create_task(self._publish(self._channel, messages))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(self, channel: Any, messages: Sequence[Message]) -> None:
        results = await asyncio.gather(
            *(
                channel.basic_publish(
                    message.body,
                    exchange=EXCHANGE,
                    properties=commands.Basic.Properties(
                        content_type="application/json", delivery_mode=2
                    ),
                    wait=False,
                )
                for message in messages
            ),
            return_exceptions=True,
        )
        confirmed: list[int] = []
        failed: list[int] = []
        for message, result in zip(messages, results, strict=True):
            good = isinstance(result, commands.Basic.Ack)
            (confirmed if good else failed).append(message.number)
        self._unconfirmed -= len(messages)
        if failed:
            # Whatever the reason is, a new connection starts afresh.
            if self._channel is channel:
                self._channel = None
            await _close(channel.connection)
            self._queue.give_back(failed)
        self._queue.acknowledge(confirmed)

    async def _run(self) -> None:
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while True:
            await self._needed.wait()
            self._needed.clear()
            try:
                connection = await asyncio.wait_for(aiormq.connect(self._url), CONNECT_S)
                channel = await asyncio.wait_for(connection.channel(), CONNECT_S)
            except Exception as error:
                if not backoff.failed:
                    where = urlsplit(self._url)
                    log.warning(
                        "the messages of project %s wait: RabbitMQ at %s:%s does not let us in: %s",
                        self._queue.project_id,
                        where.hostname,
                        where.port,
                        str(error) or type(error).__name__,
                    )
                await backoff.pause()
                self._needed.set()
                continue
            if backoff.failed:
                log.info("the messages of project %s flow again", self._queue.project_id)
            backoff.reset()
            try:
                await self._serve(connection, channel)
            finally:
                self._channel = None
                with suppress(Exception):
                    await _close(connection)
                if self._publishing:
                    await asyncio.wait(set(self._publishing), timeout=CONNECT_S)
            self._queue.pump()

    async def _serve(self, connection: Any, channel: Any) -> None:
        """Serve until the connection is lost or has been idle for ``IDLE_S``."""
        self._channel = channel
        self._queue.pump()
        while not connection.is_closed and not channel.is_closed:
            sent = self._sent
            closing = {
                asyncio.ensure_future(asyncio.shield(each.closing))
                for each in (connection, channel)
            }
            done, waiting = await asyncio.wait(
                closing, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED
            )
            for each in waiting:
                each.cancel()
            for each in done:
                each.exception()
            if done or (sent == self._sent and not self._unconfirmed):
                return


async def _close(connection: Any) -> None:
    with suppress(Exception):
        await asyncio.wait_for(connection.close(), 2)


def _tell(error: HeliometerError) -> None:
    log.error("%s", error.__cause__ or error.message)
