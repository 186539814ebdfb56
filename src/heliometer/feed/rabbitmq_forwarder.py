"""Publishes the messages of one of our queues to RabbitMQ."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiormq
from pamqp import commands

from heliometer.core.background import Supervised, Supervisor
from heliometer.core.retry import Backoff
from heliometer.feed.model import EXCHANGE
from heliometer.feed.queue import Message, Queue

log = logging.getLogger(__name__)

WINDOW = 1000
"""The most messages of a project that are sent and not confirmed."""
IDLE_S = 60.0
"""A connection that is idle for so long is closed."""
CONNECT_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0


class Forwarder:
    """A consumer of one of our queues that publishes its messages to RabbitMQ.

    It connects when there is something to send. Messages that were not confirmed when the
    connection is lost are returned to the queue.
    """

    def __init__(self, queue: Queue, url: str, tasks: Supervisor) -> None:
        self._queue = queue
        self._url = url
        self._tasks = tasks
        self._channel: Any = None
        self._unconfirmed = 0
        self._sent = 0
        self._needed = asyncio.Event()
        self._publishing: set[asyncio.Task[None]] = set()
        self._running: Supervised | None = None

    def start(self) -> None:
        """Start forwarding messages, in a task that ``close`` ends."""
        self._running = self._tasks.start(self._run, "feed-forwarder")
        self._queue.attach(self)

    async def close(self) -> None:
        """Stop consuming; what is not confirmed returns to the queue."""
        self._queue.detach(self)
        if self._running is not None:
            await self._running.stop()

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
        self._queue.pump()  # which asks for a connection if there is something to send
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
                        "the messages of project %s wait for RabbitMQ at %s:%s: %s",
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
