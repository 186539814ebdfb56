"""One process does everything: the hand-over is a call."""

from contextlib import AsyncExitStack
from functools import partial

from heliometer.alarms.loop import Evaluator
from heliometer.app.base import Base, Core, Probe, watch_alarms
from heliometer.app.feeding import open_queues, watch_feed
from heliometer.app.tasks import background
from heliometer.feed import load_feed
from heliometer.ingest.writer import Writer


async def embedded(stack: AsyncExitStack, base: Base) -> Core:
    """Store, watch and serve here."""
    settings = base.settings
    queues, messages = await open_queues(stack, base)
    writer = Writer(
        base.store,
        base.registry,
        limit=settings.limits.pending_measurements,
        committed=base.figures.committed,
        feeding=queues,
    )
    stack.push_async_callback(queues.close)
    endpoints = await base.feed.load_endpoints()
    await queues.load([e.project_id for e in endpoints], await base.feed.load_subscriptions())
    feed = load_feed(settings.amqp, queues)
    stack.push_async_callback(feed.stop)
    stack.push_async_callback(writer.drain)
    evaluator = Evaluator(
        base.store,
        base.registry,
        writer,
        base.alarms,
        settings.alarms,
        base.clock,
        committed=base.notifier.wake,
    )
    stack.push_async_callback(evaluator.close)
    await evaluator.start()
    base.figures.watch(
        "pending_measurements", "Measurements that wait to be stored.", lambda: writer.pending
    )
    watch_feed(base.figures, queues)
    watch_alarms(
        base.figures,
        lambda: len(evaluator),
        lambda: evaluator.lag_s,
        partial(getattr, evaluator),
    )
    probes: dict[str, Probe] = {"messages": messages.ping}
    if "evaluator" in base.roles:
        probes["alarms"] = evaluator.ping
    if "feed" in base.roles:
        probes["feed"] = feed.ping

    async def start() -> None:
        background(stack, queues.run(), "feed upkeep")
        await feed.start(endpoints, listen="feed" in base.roles)
        if "evaluator" in base.roles:
            background(stack, evaluator.run(), "evaluator")

    async def upkeep() -> None:
        await messages.shrink()

    return Core(
        writer,
        evaluator,
        feed,
        probes,
        base.notifier.wake,
        lambda: evaluator.is_punctual,
        start,
        upkeep,
    )
