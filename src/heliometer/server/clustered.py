"""One process of several: the shards are behind RabbitMQ, and each process does what its roles say.

Everything that works over the connection is built in every process; what a process has no role for
is not put on the connection.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from heliometer import __version__
from heliometer.alarms.clock import Clock
from heliometer.alarms.evaluator import Evaluator, rules_of
from heliometer.alarms.explainer import StoredExplainer
from heliometer.alarms.stored_windows import StoredWindows
from heliometer.cluster.connection import Broker
from heliometer.cluster.consumer import ShardConsumer
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import Member, OutboxFilled
from heliometer.cluster.feed_publisher import FeedPublisher
from heliometer.cluster.health import ClusterHealth
from heliometer.cluster.membership import Membership
from heliometer.cluster.owned_shards import OwnedShards
from heliometer.cluster.peers import ClusterPeers
from heliometer.cluster.publisher import Publisher
from heliometer.cluster.receipts import SharedReceipts
from heliometer.cluster.received import Receiver
from heliometer.cluster.remote_evaluator import RemoteEvaluator
from heliometer.cluster.remote_feed import FeedConsumer, RemoteFeedServer
from heliometer.cluster.retrying_store import RetryingStore
from heliometer.cluster.series_catalog import SeriesCatalog
from heliometer.cluster.shard_evaluation import ShardEvaluation
from heliometer.cluster.stall_detector import StallDetector
from heliometer.cluster.watermark import Watermark
from heliometer.config import Settings, WrongSetting
from heliometer.core.background import Supervisor
from heliometer.core.loopback import reachable
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.series_ids import SeriesIds
from heliometer.pipeline.shard import Shard
from heliometer.projects.model import ProjectShard
from heliometer.server.common import Base, Core, Probe, maintain, watch_alarms
from heliometer.server.feed import ServedFeed, open_feed
from heliometer.storage.clickhouse.store import ClickHouseStore

FIRST_CONNECTION_S = 10.0
"""How long a start waits for RabbitMQ; without it, posts are refused until it is there."""


@dataclass(frozen=True, slots=True)
class _Links:
    """What connects this process to the others."""

    name: str
    broker: Broker
    bus: EventBus
    members: Membership
    ids: SeriesIds
    series_catalog: SeriesCatalog


@dataclass(frozen=True, slots=True)
class _Owner:
    """What the owner of shards works with."""

    links: _Links
    stalls: StallDetector
    receipts: SharedReceipts
    feed: FeedPublisher


async def clustered(stack: AsyncExitStack, base: Base) -> Core:
    """Do what the roles say, together with others. Raises WrongSetting."""
    settings, roles = base.settings, base.roles
    links = _links(base, lambda: _describe(base, links.name, owned))
    bus, broker = links.bus, links.broker
    await links.series_catalog.refresh()
    bus.on(OutboxFilled, lambda _: base.notifier.wake())
    publisher = _publisher(base, links)
    owner = _owner(base, links)
    shards = settings.bus.partitions
    consumers = [_consumer(base, owner, ProjectShard(n, shards)) for n in range(shards)]
    owned = OwnedShards(consumers, bus, links.members, base.clock)
    broker.add(events=bus, membership=links.members, publisher=publisher)
    if "evaluator" in roles:
        broker.add(stalls=owner.stalls, feed_publisher=owner.feed, shards=owned)
        watch_alarms(base.instruments, owned.alarms, lambda: owned.lag_s, owned.total)
    streaming = RemoteFeedServer(settings.amqp, bus, links.members)
    stack.push_async_callback(streaming.stop)
    health = ClusterHealth(links.members, shards, settings.expected_processes)
    needed: dict[str, Probe] = {"bus": broker.ping}
    others: dict[str, Probe] = {"members": health.ping}
    feed = await _feed_role(stack, base, links) if "feed" in roles else None
    if feed is not None:
        # Where there is an API, it does not depend on what this process does besides.
        (others if "api" in roles else needed)["messages"] = feed.messages.ping
        others["feed"] = feed.server.ping
    _watch(base, publisher, owned, links.members)
    _watch_processes(base, health)

    async def start() -> None:
        if feed is not None:
            await feed.start(stack, base, listen=True)
        await _connect(stack, base, links, publisher)

    async def upkeep() -> None:
        if feed is not None:
            await feed.messages.shrink()
        if "evaluator" in roles:  # what the engines have is looked after by those who write there
            await maintain(base)

    return Core(
        transport=publisher,
        receipts=Receipts(()),  # the owner of a shard remembers what was stored
        watcher=RemoteEvaluator(base.alarms, bus, links.members),
        explainer=StoredExplainer(
            StoredWindows(base.store, base.series_index),
            rules_of(settings.alarms),
            Clock(base.clock),
        ),
        feed=streaming,
        peers=ClusterPeers(bus, links.members),
        needed=needed,
        others=others,
        wake=lambda: bus.send(OutboxFilled()),
        is_punctual=health.is_punctual,
        start=start,
        upkeep=upkeep,
        commands={},
        # Only where others can take over is it of use to stay.
        drain_s=settings.server.drain_seconds if "api" in roles else 0,
    )


def _links(base: Base, describe: Callable[[], Member]) -> _Links:
    assert base.ids is not None
    assert isinstance(base.engine, ClickHouseStore)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    bus = EventBus(name)
    return _Links(
        name=name,
        broker=_broker(base.settings, name, base.tasks),
        bus=bus,
        members=Membership(bus, describe),
        ids=base.ids,
        series_catalog=SeriesCatalog(base.engine, base.series_index, base.ids, bus, base.clock),
    )


def _broker(settings: Settings, name: str, tasks: Supervisor) -> Broker:
    try:
        return Broker(settings.bus, name, tasks)
    except ValueError:  # its message may have a piece of the password
        raise WrongSetting(
            "bus.url: not amqp://user:password@host:5672/vhost; write / # ? @ : within user and "
            "password as %2F %23 %3F %40 %3A"
        ) from None


def _describe(base: Base, name: str, owned: OwnedShards) -> Member:
    return Member(
        name,
        sorted(base.roles),
        socket.gethostname(),
        os.getpid(),
        __version__,
        _own_url(base.settings),
        owned.numbers,
        round(owned.lag_s, 1),
        of=base.settings.bus.partitions,
    )


def _own_url(settings: Settings) -> str:
    """Where this very process listens: ``server.public_url`` is the same for all of them."""
    host, port = settings.address
    shown = host if reachable(host) == host else socket.gethostname()
    return f"{settings.scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"


def _publisher(base: Base, links: _Links) -> Publisher:
    return Publisher(
        base.series_index,
        links.ids,
        links.bus,
        base.settings.bus,
        limit=base.settings.limits.pending_measurements,
        clock=base.clock,
        committed=base.instruments.handed_over,
    )


def _owner(base: Base, links: _Links) -> _Owner:
    return _Owner(
        links=links,
        stalls=StallDetector(),
        receipts=SharedReceipts(base.store, base.clock),
        feed=FeedPublisher(base.feed, base.series_index, links.bus),
    )


def _consumer(base: Base, owner: _Owner, projects: ProjectShard) -> ShardConsumer:
    """One shard, as its owner has it."""
    links, number = owner.links, projects.number
    shard = Shard(
        number,
        store=RetryingStore(base.store, number, owner.stalls),
        series_index=base.series_index,
        receipts=owner.receipts,
        feed=owner.feed,
        series_stored=links.series_catalog.stored,
        committed=base.instruments.committed,
    )
    watermark = Watermark(number, base.clock)
    life = base.tasks.life("shard-evaluation")

    def make_evaluator() -> Evaluator:
        return Evaluator(
            base.store,
            base.series_index,
            shard,
            base.alarms,
            base.settings.alarms,
            Clock(watermark, watermark, watermark.sleep),
            shard=projects,
            committed=lambda: links.bus.send(OutboxFilled()),
        )

    return ShardConsumer(
        shard,
        name=links.name,
        evaluation=ShardEvaluation(projects, shard, watermark, make_evaluator, base.alarms, life),
        watermark=watermark,
        receiver=Receiver(number, links.ids, links.series_catalog, links.bus),
        receipts=owner.receipts,
        series_catalog=links.series_catalog,
        clock=base.clock,
    )


async def _feed_role(stack: AsyncExitStack, base: Base, links: _Links) -> ServedFeed:
    """The queues of the feed, filled with what the owners of shards publish."""
    feed = await open_feed(stack, base, ())
    consumer = FeedConsumer(
        feed.server, feed.queues, base.feed, links.bus, base.settings.bus.partitions
    )
    consumer.knows(feed.endpoints)
    links.broker.add(feed_consumer=consumer)
    return feed


async def _connect(stack: AsyncExitStack, base: Base, links: _Links, publisher: Publisher) -> None:
    """Begin to keep the connection, and wait a while for the first one."""
    base.tasks.run(stack, links.broker.run, "broker")

    async def leave() -> None:
        await publisher.drain()
        links.members.leave()
        await links.bus.flush()

    stack.push_async_callback(leave)
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_CONNECTION_S):
            await publisher.open.wait()
            await links.bus.caught_up.wait()


def _watch(base: Base, publisher: Publisher, owned: OwnedShards, members: Membership) -> None:
    watch = base.instruments.watch
    watch("pending_measurements", "Measurements not acknowledged yet.", lambda: publisher.pending)
    watch("parts_owned", "Shards that this process owns.", lambda: len(owned.numbers))
    watch("members", "Processes of the service.", lambda: len(members.all()))


def _watch_processes(base: Base, health: ClusterHealth) -> None:
    base.instruments.watch_each(
        "cluster_processes", "Processes by role, as heard of.", "role", health.running
    )
    base.instruments.watch_each(
        "cluster_expected", "Processes by role, as there should be.", "role", health.expected
    )
