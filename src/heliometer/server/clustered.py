"""One process of several: the hand-over is RabbitMQ's, and each does what its roles say."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress

from heliometer import __version__
from heliometer.alarms.clock import Clock
from heliometer.alarms.evaluator import Evaluator, rules_of
from heliometer.alarms.explainer import StoredExplainer
from heliometer.alarms.stored_windows import StoredWindows
from heliometer.cluster.connection import Broker
from heliometer.cluster.consumer import ShardConsumer
from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import Member, MetersChanged, OutboxFilled
from heliometer.cluster.feed_publisher import FeedPublisher, ShardBatch
from heliometer.cluster.health import ClusterHealth
from heliometer.cluster.membership import Membership
from heliometer.cluster.owned_shards import OwnedShards
from heliometer.cluster.patient_store import PatientStore
from heliometer.cluster.publisher import Publisher
from heliometer.cluster.receipts import SharedReceipts
from heliometer.cluster.received import Receiver
from heliometer.cluster.remote_evaluator import RemoteEvaluator
from heliometer.cluster.remote_feed import Intake, RemoteStreaming
from heliometer.cluster.series_catalog import SeriesCatalog
from heliometer.cluster.shard_evaluation import ShardEvaluation
from heliometer.cluster.stall_detector import StallDetector
from heliometer.cluster.watermark import Watermark
from heliometer.config import WrongSetting
from heliometer.core.background import background
from heliometer.feed import load_feed
from heliometer.metrics.idempotency import Receipts
from heliometer.pipeline.shard import Shard
from heliometer.projects.model import ProjectShard
from heliometer.server.common import Base, Core, Probe, watch_alarms
from heliometer.server.feed import open_queues, watch_feed
from heliometer.storage.clickhouse.store import ClickHouseStore

log = logging.getLogger(__name__)

FIRST_CONNECTION_S = 10.0
OWN_VIEW = ("bus", "members")
"""Probes that every process makes for itself: what one finds there says nothing of another."""


async def clustered(stack: AsyncExitStack, base: Base) -> Core:
    """Do what the roles say, together with others. Raises WrongSetting."""
    settings, roles = base.settings, base.roles
    assert base.ids is not None
    assert isinstance(base.engine, ClickHouseStore)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        broker = Broker(settings.bus, name)
    except ValueError:  # its message may have a piece of the password
        raise WrongSetting(
            "bus.url: not amqp://user:password@host:5672/vhost; write / # ? @ : within user and "
            "password as %2F %23 %3F %40 %3A"
        ) from None
    bus = EventBus(name)
    series_catalog = SeriesCatalog(base.engine, base.series_index, base.ids, bus, base.clock)
    await series_catalog.refresh()
    publisher = Publisher(
        base.series_index,
        base.ids,
        bus,
        settings.bus,
        limit=settings.limits.pending_measurements,
        clock=base.clock,
        committed=base.instruments.handed_over,
    )

    def wake() -> None:
        bus.send(OutboxFilled())

    bus.on(OutboxFilled, lambda _: base.notifier.wake())
    stalls = StallDetector()
    feed_publisher = FeedPublisher(base.feed, base.series_index, bus)
    receipts = SharedReceipts(base.store, base.clock)

    def make_evaluator(
        projects: ProjectShard, shard: Shard[ShardBatch], watermark: Watermark
    ) -> Evaluator:
        return Evaluator(
            base.store,
            base.series_index,
            shard,
            base.alarms,
            settings.alarms,
            Clock(watermark, watermark, watermark.sleep),
            shard=projects,
            committed=wake,
        )

    parts = settings.bus.partitions
    ids = base.ids

    def consumer(number: int) -> ShardConsumer:
        shard = Shard(
            number,
            store=PatientStore(base.store, number, stalls),
            series_index=base.series_index,
            receipts=receipts,
            feed=feed_publisher,
            series_stored=series_catalog.stored,
            committed=base.instruments.committed,
        )
        watermark = Watermark(number, base.clock)
        return ShardConsumer(
            shard,
            name=name,
            evaluation=ShardEvaluation(
                ProjectShard(number, parts), shard, watermark, make_evaluator, base.alarms
            ),
            watermark=watermark,
            receiver=Receiver(number, ids, series_catalog, bus),
            receipts=receipts,
            series_catalog=series_catalog,
            clock=base.clock,
        )

    consumers = [consumer(number) for number in range(parts)]

    failed: dict[str, str] = {}

    def report(found: Mapping[str, str]) -> None:
        failed.clear()
        failed.update({n: why for n, why in found.items() if n not in OWN_VIEW})

    def me() -> Member:
        return Member(
            name,
            sorted(roles),
            socket.gethostname(),
            os.getpid(),
            __version__,
            settings.base_url,
            owned.numbers,
            round(owned.lag_s, 1),
            dict(failed),
            parts,
        )

    members = Membership(bus, me)
    owned = OwnedShards(consumers, bus, members, base.clock)
    for part in (bus, members, publisher):
        broker.add(part)
    if "evaluator" in roles:
        broker.add(stalls)
        broker.add(feed_publisher)
        broker.add(owned)
    streaming = RemoteStreaming(settings.amqp, bus, members)
    stack.push_async_callback(streaming.stop)
    roll = ClusterHealth(members, parts)
    probes: dict[str, Probe] = {"bus": broker.ping, "members": roll.ping}
    upkeep_feed = None
    if "feed" in roles:
        queues, messages = await open_queues(stack, base)
        stack.push_async_callback(queues.close)
        endpoints = await base.feed.load_endpoints()
        await queues.load([e.project_id for e in endpoints], [])
        feed = load_feed(settings.amqp, queues)
        stack.push_async_callback(feed.stop)
        intake = Intake(feed, queues, base.feed, bus, parts)
        intake.knows(endpoints)
        broker.add(intake)
        watch_feed(base.instruments, queues)
        probes |= {"messages": messages.ping, "feed": feed.ping}
        upkeep_feed = messages.shrink
    base.instruments.watch(
        "pending_measurements", "Measurements not acknowledged yet.", lambda: publisher.pending
    )
    base.instruments.watch(
        "parts_owned", "Parts that this process owns.", lambda: len(owned.numbers)
    )
    base.instruments.watch("members", "Processes of the service.", lambda: len(members.all()))
    if "evaluator" in roles:
        watch_alarms(base.instruments, owned.alarms, lambda: owned.lag_s, owned.total)

    async def start() -> None:
        if "feed" in roles:
            background(stack, queues.run(), "feed upkeep")
            await feed.start(endpoints, listen=True)
        background(stack, broker.run(), "broker")

        async def leave() -> None:
            await publisher.drain()
            members.leave()
            await bus.flush()

        stack.push_async_callback(leave)
        with suppress(TimeoutError):  # without, posts are refused until there is a connection
            async with asyncio.timeout(FIRST_CONNECTION_S):
                await publisher.open.wait()
                await bus.caught_up.wait()

    async def announce_meters(project_id: str) -> None:
        await bus.tell(MetersChanged(project_id), lambda: members.names("api"))

    def hear_of_meters(heard: Callable[[str], None]) -> None:
        async def look() -> None:
            heard("")

        bus.on(MetersChanged, lambda event: heard(event.project_id))
        bus.on_connect(look)

    async def upkeep() -> None:
        if upkeep_feed is not None:
            await upkeep_feed()

    return Core(
        publisher,
        Receipts(()),  # the owner of a shard remembers what was stored
        RemoteEvaluator(base.alarms, bus, members),
        StoredExplainer(
            StoredWindows(base.store, base.series_index),
            rules_of(settings.alarms),
            Clock(base.clock),
        ),
        streaming,
        probes,
        wake,
        roll.is_punctual,
        start,
        upkeep,
        lambda: members.failed_elsewhere(),
        announce_meters,
        hear_of_meters,
        report,
    )
