"""One process does everything: the hand-over is a call."""

from contextlib import AsyncExitStack
from functools import partial

from heliometer.alarms.clock import Clock
from heliometer.alarms.evaluator import Evaluator
from heliometer.core.background import background
from heliometer.feed import load_feed
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.receipts import RECEIPT_LIFE_MS
from heliometer.pipeline.group_commit import GroupCommit
from heliometer.pipeline.shard import Shard
from heliometer.server.common import Base, Core, Probe, watch_alarms
from heliometer.server.feed import open_queues, watch_feed


async def embedded(stack: AsyncExitStack, base: Base) -> Core:
    """Store, watch and serve here."""
    settings = base.settings
    queues, messages = await open_queues(stack, base)
    now_ms = int(base.clock() * 1000)
    receipts = Receipts(await base.store.load_receipts(now_ms - RECEIPT_LIFE_MS))
    shard = Shard(
        0,
        store=base.store,
        series_index=base.series_index,
        receipts=receipts,
        feed=queues,
        series_stored=base.series_index.saved,
        committed=base.instruments.committed,
    )
    writer = GroupCommit(shard, base.series_index, limit=settings.limits.pending_measurements)
    stack.push_async_callback(queues.close)
    endpoints = await base.feed.load_endpoints()
    await queues.load([e.project_id for e in endpoints], await base.feed.load_subscriptions())
    feed = load_feed(settings.amqp, queues)
    stack.push_async_callback(feed.stop)
    stack.push_async_callback(writer.drain)
    evaluator = Evaluator(
        base.store,
        base.series_index,
        shard,
        base.alarms,
        settings.alarms,
        Clock(base.clock),
        committed=base.notifier.wake,
    )
    stack.push_async_callback(evaluator.close)
    await evaluator.start()
    base.instruments.watch(
        "pending_measurements", "Measurements that wait to be stored.", lambda: writer.pending
    )
    watch_feed(base.instruments, queues)
    watch_alarms(
        base.instruments,
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
        receipts,
        evaluator,
        evaluator,
        feed,
        probes,
        base.notifier.wake,
        lambda: evaluator.is_punctual,
        start,
        upkeep,
    )
