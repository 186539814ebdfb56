"""One process of several: the hand-over is RabbitMQ's, and each does what its roles say."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress

from heliometer import __version__
from heliometer.alarms.loop import Evaluator
from heliometer.app.base import Base, Core, Probe, watch_alarms
from heliometer.app.feeding import open_queues, watch_feed
from heliometer.app.tasks import background
from heliometer.cluster.broker import Broker
from heliometer.cluster.catalogue import Catalogue
from heliometer.cluster.changes import Changes, Member, Members
from heliometer.cluster.owner import Owner
from heliometer.cluster.partition import Partition, StreamClock, Tools
from heliometer.cluster.passing import PassOn
from heliometer.cluster.publisher import Publisher
from heliometer.cluster.pulse import Pulse
from heliometer.cluster.remembered import Remembered
from heliometer.cluster.roll import Roll
from heliometer.cluster.streaming import Intake, RemoteStreaming
from heliometer.cluster.watching import Watching
from heliometer.config import WrongSetting
from heliometer.feed import load_feed
from heliometer.model.projects import Share
from heliometer.stores.measurements.clickhouse import ClickHouseStore

log = logging.getLogger(__name__)

METERS = "meters"
"""Kind of the change that tells of a project whose custom meters are others."""
OUTBOX = "outbox"
"""Kind of the change that tells of something to send."""
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
    changes = Changes(name)
    catalogue = Catalogue(base.engine, base.registry, base.ids, changes, base.clock)
    await catalogue.refresh()
    publisher = Publisher(
        base.registry,
        base.ids,
        changes,
        settings.bus,
        limit=settings.limits.pending_measurements,
        clock=base.clock,
        committed=base.figures.handed_over,
    )

    def wake() -> None:
        changes.send(OUTBOX, None)

    changes.on(OUTBOX, lambda _: base.notifier.wake())
    pulse = Pulse()
    passing = PassOn(base.feed, base.registry, changes)

    def make_evaluator(share: Share, partition: Partition, stream: StreamClock) -> Evaluator:
        return Evaluator(
            base.store,
            base.registry,
            partition,
            base.alarms,
            settings.alarms,
            stream,
            share=share,
            committed=wake,
            sleep=stream.sleep,
            steady=stream,
        )

    tools = Tools(
        base.store,
        base.registry,
        base.ids,
        catalogue,
        Remembered(base.store, base.clock),
        changes,
        passing,
        pulse,
        make_evaluator,
        base.clock,
        base.figures.committed,
    )
    parts = settings.bus.partitions
    partitions = [Partition(Share(n, parts), tools) for n in range(parts)]

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
            owner.owned,
            round(owner.lag_s, 1),
            dict(failed),
            parts,
        )

    members = Members(changes, me)
    owner = Owner(partitions, changes, members, base.alarms, base.clock)
    for part in (changes, members, publisher):
        broker.add(part)
    if "evaluator" in roles:
        broker.add(pulse)
        broker.add(passing)
        broker.add(owner)
    streaming = RemoteStreaming(settings.amqp, changes, members)
    stack.push_async_callback(streaming.stop)
    # It watches nothing; explanations and dry runs need its way of reading windows.
    explaining = Evaluator(
        base.store, base.registry, publisher, base.alarms, settings.alarms, base.clock
    )
    stack.push_async_callback(explaining.close)
    roll = Roll(members, parts)
    probes: dict[str, Probe] = {"bus": broker.ping, "members": roll.ping}
    upkeep_feed = None
    if "feed" in roles:
        queues, messages = await open_queues(stack, base)
        stack.push_async_callback(queues.close)
        endpoints = await base.feed.load_endpoints()
        await queues.load([e.project_id for e in endpoints], [])
        feed = load_feed(settings.amqp, queues)
        stack.push_async_callback(feed.stop)
        intake = Intake(feed, queues, base.feed, changes, parts)
        intake.knows(endpoints)
        broker.add(intake)
        watch_feed(base.figures, queues)
        probes |= {"messages": messages.ping, "feed": feed.ping}
        upkeep_feed = messages.shrink
    base.figures.watch(
        "pending_measurements", "Measurements not acknowledged yet.", lambda: publisher.pending
    )
    base.figures.watch("parts_owned", "Parts that this process owns.", lambda: len(owner.owned))
    base.figures.watch("members", "Processes of the service.", lambda: len(members.all()))
    if "evaluator" in roles:
        watch_alarms(base.figures, owner.alarms, lambda: owner.lag_s, owner.total)

    async def start() -> None:
        if "feed" in roles:
            background(stack, queues.run(), "feed upkeep")
            await feed.start(endpoints, listen=True)
        background(stack, broker.run(), "broker")

        async def leave() -> None:
            await publisher.drain()
            members.leave()
            await changes.flush()

        stack.push_async_callback(leave)
        with suppress(TimeoutError):  # without, posts are refused until there is a connection
            async with asyncio.timeout(FIRST_CONNECTION_S):
                await publisher.open.wait()
                await changes.looked.wait()

    async def announce_meters(project_id: str) -> None:
        await changes.tell(METERS, project_id, lambda: members.names("api"))

    def hear_of_meters(heard: Callable[[str], None]) -> None:
        async def look() -> None:
            heard("")

        changes.on(METERS, heard)
        changes.on_connect(look)

    async def upkeep() -> None:
        if upkeep_feed is not None:
            await upkeep_feed()

    return Core(
        publisher,
        Watching(base.alarms, explaining, changes, members),
        streaming,
        probes,
        wake,
        roll.is_punctual,
        start,
        upkeep,
        lambda: members.failed(but=name),
        announce_meters,
        hear_of_meters,
        report,
    )
