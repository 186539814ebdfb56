"""The connection to RabbitMQ, restored whenever it is lost, and the exchanges and queues there."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import ChannelInvalidStateError
from pamqp import commands
from pamqp.common import FieldTable

from heliometer.config import BusSettings
from heliometer.core.background import Ended, Supervisor, together
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.retry import Backoff

log = logging.getLogger(__name__)

WORK = "heliometer.work"
"""Exchange for posted measurements, with a queue for each shard."""
FEED = "heliometer.feed"
"""Exchange for measurements that are subscribed to, with a queue for each shard."""
CHANGES = "heliometer.changes"
"""Exchange to all processes: changes in the resource database, and membership."""
HEARTBEAT_S = 10
CONNECT_S = 5.0
CLOSE_S = 2.0
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0
CONNECTION_ERRORS = (aiormq.AMQPError, ChannelInvalidStateError, OSError, TimeoutError)
"""Raised by what uses a connection when it is lost."""
REDELIVERIES = 1 << 30
"""Newer brokers drop messages after 20 redeliveries; that must never happen here."""


class Client(Protocol):
    """Something that works over the connection while there is one."""

    async def serve(self, connection: AbstractConnection) -> None:
        """Work until cancelled. An exception ends the connection, and every client starts over."""
        ...


class Broker:
    """The one connection of this process."""

    def __init__(self, settings: BusSettings, name: str, tasks: Supervisor) -> None:
        self._settings = settings
        self._tasks = tasks
        self._name = name
        parts = urlsplit(settings.url)
        self.where = f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"
        separator = "&" if parts.query else "?"
        self._url = f"{settings.url}{separator}heartbeat={HEARTBEAT_S}&name={name}"
        self._clients: dict[str, Client] = {}
        self.connected = asyncio.Event()
        self._is_logged = False

    def add(self, **clients: Client) -> None:
        """Have clients served from the next connection on, each in a task of that name."""
        self._clients |= clients

    async def ping(self) -> None:
        """Raise UNAVAILABLE unless there is a connection."""
        if not self.connected.is_set():
            raise HeliometerError(Code.UNAVAILABLE, "There is no connection to RabbitMQ.")

    async def run(self) -> None:
        """Keep up the connection until cancelled."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while True:
            # A connection that is lost at once is not a success.
            if await self._once() > LAST_RETRY_S:
                backoff.reset()
            await backoff.pause()

    async def _once(self) -> float:
        """Connect and serve until the connection is lost; returns how many seconds it lasted."""
        began = time.monotonic()
        try:
            connection = await asyncio.wait_for(aiormq.connect(self._url), CONNECT_S)
        except Exception as error:
            self._log_failure(error)
            return 0
        try:
            await asyncio.wait_for(self._declare(connection), 2 * CONNECT_S)
            self.connected.set()
            if self._is_logged:
                log.info("RabbitMQ at %s answers again", self.where)
            self._is_logged = False
            works = {
                name: partial(self._serve, name, client, connection)
                for name, client in self._clients.items()
            }
            await together(connection=partial(until_closed, connection), **works)
        except Exception as error:
            self._log_failure(error)
        finally:
            stood_s = time.monotonic() - began if self.connected.is_set() else 0
            self.connected.clear()
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), CLOSE_S)
        return stood_s

    async def _serve(self, name: str, client: Client, connection: AbstractConnection) -> None:
        life = self._tasks.life(name.replace("_", "-"))
        life.began()
        try:
            await client.serve(connection)
        except Exception as error:
            if isinstance(error, CONNECTION_ERRORS):
                life.left()  # that the connection is gone is reported once, for all of them
            else:
                life.ended(error)
            raise
        except BaseException:
            life.left()
            raise
        ended = Ended(f"{life.name} returned")
        life.ended(ended)
        raise ended

    def _log_failure(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]  # the first client's error says why the connection ended
        if not self._is_logged:
            reason = str(error).replace(self._settings.url, self.where) or type(error).__name__
            if "Connection.Close" in reason:
                reason = "there is no such vhost, or the user may not use it"
            log.error("the connection to RabbitMQ at %s failed: %s", self.where, reason)
        self._is_logged = True

    async def _declare(self, connection: AbstractConnection) -> None:
        """Declare exchanges and queues, which exist already except the first time."""
        channel = await connection.channel()
        for exchange, kind in ((WORK, "direct"), (FEED, "direct"), (CHANGES, "fanout")):
            await channel.exchange_declare(exchange=exchange, exchange_type=kind, durable=True)
        arguments: FieldTable = {
            "x-queue-type": self._settings.queue_type,
            "x-single-active-consumer": True,
            "x-max-length-bytes": self._settings.queue_bytes,
            "x-overflow": "reject-publish",
        }
        if self._settings.queue_type == "quorum":
            arguments["x-delivery-limit"] = REDELIVERIES
        for exchange in (WORK, FEED):
            for shard in range(self._settings.partitions):
                queue = queue_name(exchange, shard)
                await channel.queue_declare(queue=queue, durable=True, arguments=arguments)
                await channel.queue_bind(queue=queue, exchange=exchange, routing_key=str(shard))
        await channel.close()


def queue_name(exchange: str, shard: int) -> str:
    """The queue of a shard behind ``WORK`` or ``FEED``."""
    return f"{exchange}.{shard}"


def persistent(now_ms: int, reply_to: str | None = None) -> commands.Basic.Properties:
    """Properties of a message that must survive a restart of the broker."""
    sent = datetime.fromtimestamp(now_ms // 1000, UTC)
    return commands.Basic.Properties(delivery_mode=2, reply_to=reply_to, timestamp=sent)


class Inbox:
    """The incoming messages of one consumer, taken many at a time."""

    def __init__(self) -> None:
        self._messages: list[DeliveredMessage] = []
        self._there = asyncio.Event()
        self._ended = False

    def end_with(self, channel: AbstractChannel) -> None:
        """Have ``take`` raise when the broker closes the channel or cancels the consumer. Otherwise
        messages would stop coming and nothing would show it."""
        channel.closing.add_done_callback(self._end)
        channel.on_consumer_cancel_callbacks.add(self._end)

    def _end(self, _: object) -> None:
        self._ended = True
        self._there.set()

    async def put(self, message: DeliveredMessage) -> None:
        """Add a message; called in the order of the queue."""
        self._messages.append(message)
        self._there.set()

    async def take(self, largest: int) -> Sequence[DeliveredMessage]:
        """Wait for messages and return as many as fit into ``largest`` bytes, but at least one.
        Raises ConnectionError: see ``end_with``."""
        await self._there.wait()
        if self._ended:
            raise ConnectionError("RabbitMQ ended a consumer")
        size = count = 0
        for message in self._messages:
            size += len(message.body)
            if count and size > largest:
                break
            count += 1
        taken, self._messages = self._messages[:count], self._messages[count:]
        if not self._messages:
            self._there.clear()
        return taken


async def acknowledge(channel: AbstractChannel, newest: DeliveredMessage) -> None:
    """Acknowledge a message and all earlier ones of the channel."""
    assert newest.delivery_tag is not None
    await channel.basic_ack(newest.delivery_tag, multiple=True, wait=False)


async def until_closed(opened: AbstractConnection | AbstractChannel) -> None:
    """Raise ConnectionError when a connection or channel is closed, by either side. RabbitMQ closes
    a single channel for an operation that it does not allow."""
    closing = opened.closing
    try:
        await asyncio.wait({closing})
    finally:
        closing.cancel()
    why = None if closing.cancelled() else closing.exception()
    raise ConnectionError(str(why or "") or "the connection was closed")
