"""The feed between processes: one in which endpoints are defined, and one that serves them."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

import msgspec
from aiormq.abc import AbstractConnection

from heliometer.cluster.connection import FEED, Inbox, acknowledge, queue_name
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import (
    EndpointChanged,
    ProjectUsage,
    SubscriptionsChanged,
    UsageAnswered,
    UsageAsked,
    UsageQuestion,
)
from heliometer.cluster.membership import Membership
from heliometer.config import AmqpSettings
from heliometer.core.background import together
from heliometer.core.errors import HeliometerError
from heliometer.feed import Feed
from heliometer.feed.builtin import uri as builtin_uri
from heliometer.feed.hub import FeedHub
from heliometer.feed.model import Endpoint, Subscription, Usage
from heliometer.feed.ports import FeedStore
from heliometer.feed.rabbitmq import uri as rabbitmq_uri
from heliometer.feed.rabbitmq_management import Management

log = logging.getLogger(__name__)

PREFETCH = 50
LARGEST = 16 << 20
ANSWER_S = 0.5
RETRY_S = 1.0
NOTHING = Usage(0, 0, 0, 0, 0)


class RemoteFeedServer:
    """Serves endpoints by forwarding each call to the process with the feed role."""

    def __init__(self, settings: AmqpSettings, bus: EventBus, members: Membership) -> None:
        self._settings = settings
        self._management = Management(settings) if settings.backend == "rabbitmq" else None
        self._bus = bus
        self._members = members
        self._asked: dict[str, list[asyncio.Future[Usage]]] = {}
        bus.on(UsageAnswered, self._heard)

    async def stop(self) -> None:
        """Close the connections to the tenants' broker."""
        if self._management is not None:
            await self._management.close()

    def uri(self, endpoint: Endpoint, host: str) -> str:
        """The URL that clients connect to."""
        if self._management is not None:
            return rabbitmq_uri(self._settings, endpoint)
        return builtin_uri(self._settings, endpoint, host)

    async def open(self, endpoint: Endpoint) -> None:
        """Admit the endpoint's user. Raises UNAVAILABLE."""
        if self._management is not None:
            await self._management.provide(endpoint)

    async def reset(self, endpoint: Endpoint) -> None:
        """Replace the password of the endpoint's user."""
        if self._management is not None:
            await self._management.set_password(endpoint)

    async def close(self, endpoint: Endpoint) -> None:
        """Close the endpoint's connections and remove its queue."""
        if self._management is not None:
            await self._management.remove(endpoint)

    async def stored(self, project_id: str) -> None:
        """Have the endpoint served as it is now in the database."""
        event = EndpointChanged(project_id)
        await self._bus.tell(event, lambda: self._members.names("feed"))

    async def subscribe(self, subscription: Subscription) -> None:
        """Deliver the subscription's measurements from now on."""
        await self._notify_owners(subscription.project_id)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop delivering its measurements, except those that another subscription matches."""
        await self._notify_owners(subscription.project_id)

    async def _notify_owners(self, project_id: str) -> None:
        event = SubscriptionsChanged(project_id)
        await self._bus.tell(event, lambda: self._members.names("evaluator"))

    async def usage(self, project_id: str) -> Usage:
        """How much the project's queue holds; an empty ``Usage`` if no process answers."""
        future: asyncio.Future[Usage] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(project_id, []).append(future)
        self._bus.send(UsageAsked(UsageQuestion(project_id, self._bus.queue)))
        try:
            return await asyncio.wait_for(future, ANSWER_S)
        except TimeoutError:
            # Perhaps no process serves it, and no answer will ever come.
            waiting = [f for f in self._asked.pop(project_id, ()) if f is not future]
            if waiting:
                self._asked[project_id] = waiting
            return NOTHING

    def _heard(self, event: UsageAnswered) -> None:
        for future in self._asked.pop(event.answer.project_id, ()):
            if not future.done():
                future.set_result(event.answer.usage)


class FeedConsumer:
    """The feed role: fills the queues of projects with what the owners of shards publish."""

    def __init__(
        self, feed: Feed, queues: FeedHub, feed_store: FeedStore, bus: EventBus, shards: int
    ) -> None:
        self._feed = feed
        self._queues = queues
        self._feed_store = feed_store
        self._bus = bus
        self._shards = shards
        self._endpoints: dict[str, Endpoint] = {}
        self._looked = asyncio.Event()
        """Set once ``_endpoints`` has all endpoints from before the connection was made."""
        self._following = asyncio.Lock()
        """Held while endpoints are read and applied, so that the last read wins."""
        bus.on(UsageAsked, self._answer)
        bus.on(EndpointChanged, self._endpoint_changed)
        bus.on_connect(self._look)

    def knows(self, endpoints: Sequence[Endpoint]) -> None:
        """Start with these endpoints as served already."""
        self._endpoints = {e.project_id: e for e in endpoints}

    async def serve(self, connection: AbstractConnection) -> None:
        """Consume the shards' queues that the broker assigns to this process."""
        # Changes were missed without a connection: messages may be for an endpoint that is not
        # known yet, or that replaced one that is gone.
        self._looked.clear()
        await self._looked.wait()
        await together(
            **{f"feed {n}": partial(self._take, connection, n) for n in range(self._shards)}
        )

    async def _take(self, connection: AbstractConnection, shard: int) -> None:
        channel = await connection.channel(publisher_confirms=False)
        await channel.basic_qos(prefetch_count=PREFETCH)
        inbox = Inbox()
        inbox.end_with(channel)
        await channel.basic_consume(queue_name(FEED, shard), inbox.put)
        decode = msgspec.msgpack.Decoder(list[tuple[str, list[bytes]]]).decode
        while True:
            messages = await inbox.take(LARGEST)
            content: list[tuple[str, list[bytes]]] = []
            for message in messages:
                try:
                    content += decode(message.body)
                except msgspec.MsgspecError as error:
                    log.error("a message of the feed cannot be read: %s", error)
            await self._put(content)
            await acknowledge(channel, messages[-1])

    async def _put(self, content: Sequence[tuple[str, list[bytes]]]) -> None:
        is_logged = False
        while True:
            try:
                # The process that defined an endpoint waits only briefly: its change may arrive
                # later.
                for project_id in {p for p, _ in content if p not in self._queues}:
                    await self._read(project_id)
                await self._queues.put(content)
                return
            except HeliometerError as error:
                if not is_logged:
                    log.error("messages of the feed wait: %s", error.message)
                is_logged = True
                await asyncio.sleep(RETRY_S)

    async def _look(self) -> None:
        async with self._following:
            endpoints = {e.project_id: e for e in await self._feed_store.load_endpoints()}
            for project_id in {*self._endpoints, *endpoints}:
                await self._follow(project_id, endpoints.get(project_id))
        self._looked.set()

    async def _endpoint_changed(self, event: EndpointChanged) -> None:
        await self._read(event.project_id)

    async def _read(self, project_id: str) -> None:
        async with self._following:
            found = await self._feed_store.list_endpoints(project_id)
            await self._follow(project_id, found[0] if found else None)

    async def _follow(self, project_id: str, now: Endpoint | None) -> None:
        before = self._endpoints.get(project_id)
        if now == before:
            return
        await self._feed.follow(before, now)
        if now is None:
            del self._endpoints[project_id]
        else:
            self._endpoints[project_id] = now

    def _answer(self, event: UsageAsked) -> None:
        project_id, queue = event.question
        if project_id in self._endpoints and queue:
            answer = ProjectUsage(project_id, self._queues.usage(project_id))
            self._bus.reply(queue, UsageAnswered(answer))
