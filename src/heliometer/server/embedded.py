"""One process does everything: one shard behind a group commit."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

from heliometer.alarms.clock import Clock
from heliometer.alarms.evaluator import Evaluator
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.receipts import RECEIPT_LIFE_MS
from heliometer.pipeline.group_commit import GroupCommit
from heliometer.pipeline.shard import Shard
from heliometer.server import stores_check
from heliometer.server.common import Base, Core, Probe, maintain, watch_alarms
from heliometer.server.control_commands import commands
from heliometer.server.feed import ServedFeed, open_feed
from heliometer.server.peers import NoPeers
from heliometer.storage.duckdb.store import DuckDBStore

SCRUB_S = 86_400
"""Seconds between two searches of everything for damage."""


async def embedded(stack: AsyncExitStack, base: Base) -> Core:
    """Store, evaluate and serve here."""
    base.series_index.load(await base.store.load_series())
    since_ms = int(base.clock() * 1000) - RECEIPT_LIFE_MS
    receipts = Receipts(await base.store.load_receipts(since_ms))
    feed = await open_feed(stack, base, await base.feed.load_subscriptions())
    shard = Shard(
        0,
        store=base.store,
        series_index=base.series_index,
        receipts=receipts,
        feed=feed.queues,
        series_stored=base.series_index.saved,
        committed=base.instruments.committed,
    )
    transport = GroupCommit(
        shard, base.series_index, limit=base.settings.limits.pending_measurements
    )
    stack.push_async_callback(transport.drain)
    base.instruments.watch(
        "pending_measurements", "Measurements that wait to be stored.", lambda: transport.pending
    )
    evaluator = Evaluator(
        base.store,
        base.series_index,
        shard,
        base.alarms,
        base.settings.alarms,
        Clock(base.clock),
        committed=base.notifier.wake,
    )
    stack.push_async_callback(evaluator.close)
    await evaluator.start()
    watch_alarms(
        base.instruments,
        lambda: len(evaluator),
        lambda: evaluator.lag_s,
        partial(getattr, evaluator),
    )

    async def start() -> None:
        await feed.start(stack, base, listen="feed" in base.roles)
        stores_check.remember(base.settings)
        if isinstance(base.engine, DuckDBStore):
            base.tasks.run(stack, partial(_scrub, base.engine), "scrub")
        if "evaluator" in base.roles:
            base.tasks.run(stack, evaluator.run, "evaluator")
        if "notifier" in base.roles:
            # The embedded database has one process: what the last one claimed, it left behind.
            await base.notifications.outbox.release_claims()

    async def upkeep() -> None:
        await feed.messages.shrink()
        await maintain(base)

    return Core(
        transport=transport,
        receipts=receipts,
        watcher=evaluator,
        explainer=evaluator,
        feed=feed.server,
        peers=NoPeers(),
        needed={"messages": feed.messages.ping},
        others=_others(base, evaluator, feed),
        wake=base.notifier.wake,
        is_punctual=lambda: evaluator.is_punctual,
        start=start,
        upkeep=upkeep,
        commands=commands(base),
        drain_s=0,
    )


async def _scrub(engine: DuckDBStore) -> None:
    """Look for damage after the start, and once a day."""
    while True:
        await engine.scrub()
        await asyncio.sleep(SCRUB_S)


def _others(base: Base, evaluator: Evaluator, feed: ServedFeed) -> dict[str, Probe]:
    probes: dict[str, Probe] = {}
    if isinstance(base.engine, DuckDBStore):
        probes["damage"] = base.engine.require_undamaged
    if "evaluator" in base.roles:
        probes["alarms"] = evaluator.ping
    if "feed" in base.roles:
        probes["feed"] = feed.server.ping
    return probes
