"""What every process has: the stores, who calls, the series, and what is sent."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from heliometer.alarms.dry_run import DryRunner
from heliometer.alarms.evaluator import rules_of
from heliometer.alarms.ports import Explainer, Watcher
from heliometer.config import Settings, WrongSetting
from heliometer.core.background import Supervisor
from heliometer.core.instruments import Instruments
from heliometer.core.quotas import Quotas
from heliometer.feed.ports import FeedServer
from heliometer.metrics.idempotency import Receipts
from heliometer.metrics.ports import MeasurementStore, MeasurementTransport
from heliometer.metrics.series_ids import LocalStore, SeriesIds
from heliometer.metrics.series_index import SeriesIndex
from heliometer.notifications.channels import load_channels
from heliometer.notifications.channels.channel import Sender
from heliometer.notifications.charts import Charts
from heliometer.notifications.composer import Composer
from heliometer.notifications.dispatcher import Notifier
from heliometer.notifications.model import DELIVERED, FAILED
from heliometer.notifications.ports import NotificationStores
from heliometer.notifications.verification import Validation
from heliometer.server import stores_check
from heliometer.server.control import Command
from heliometer.server.identity import People, load_identity
from heliometer.server.peers import Peers
from heliometer.storage.clickhouse.store import ClickHouseStore
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.audit import SqlAuditStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.feed import SqlFeedStore
from heliometer.storage.sql.notification_stores import notification_stores
from heliometer.storage.sql.projects import SqlProjectStore
from heliometer.storage.sql.secret_keys import reseal
from heliometer.storage.sql.uses import SqlUseStore

DAY_MS = 86_400_000
FORGOTTEN_AT_ONCE = 10_000

Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What every process has."""

    settings: Settings
    roles: frozenset[str]
    clock: Callable[[], float]
    instruments: Instruments
    tasks: Supervisor
    """Whatever runs in the background."""
    resources: Database
    engine: DuckDBStore | ClickHouseStore
    """The store of the measurements as it is."""
    store: MeasurementStore
    """The same with this process's numbers of series."""
    series_index: SeriesIndex
    """Empty until ``embedded`` or ``clustered`` has read the store's series."""
    ids: SeriesIds | None
    """What other processes call series; none where there are no others."""
    quotas: Quotas
    people: People
    alarms: SqlAlarmStore
    dry_runs: DryRunner
    notifications: NotificationStores
    feed: SqlFeedStore
    audit: SqlAuditStore
    senders: Mapping[str, Sender]
    validation: Validation
    notifier: Notifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What takes measurements and sees to it that they are stored, evaluated and published: in this
    process, or together with others."""

    transport: MeasurementTransport
    receipts: Receipts
    """Of what the transport took from this process."""
    watcher: Watcher
    explainer: Explainer
    feed: FeedServer
    peers: Peers
    needed: Mapping[str, Probe]
    """Health checks of what answering takes, beside the stores of ``Base``."""
    others: Mapping[str, Probe]
    """Health checks of what callers do not wait for."""
    wake: Callable[[], None]
    """Called when something was put into the outbox."""
    is_punctual: Callable[[], bool]
    """Whether alarms are evaluated in time."""
    start: Callable[[], Awaitable[None]]
    """Begins what runs in the background; everything else is there."""
    upkeep: Callable[[], Awaitable[None]]
    """Called every minute; looks after what this process stores."""
    commands: Mapping[str, Command]
    """What the command line may ask for; none where other processes share the data."""
    drain_s: float
    """How long this process keeps serving after the signal to stop, in seconds."""


async def open_base(
    stack: AsyncExitStack, settings: Settings, roles: frozenset[str], clock: Callable[[], float]
) -> Base:
    """Open the stores. Raises WrongSetting, StoreUnusable or UnusableDatabase."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise WrongSetting(
            f"server.data_dir: {settings.server.data_dir!r} cannot be made: {error.strerror}"
        ) from error
    instruments = Instruments()
    stores_check.require(settings)
    resources = await Database.open(settings)
    stack.push_async_callback(resources.close)
    await reseal(resources)
    ids: SeriesIds | None = None
    engine: DuckDBStore | ClickHouseStore
    store: MeasurementStore
    if settings.metrics.url:
        store = engine = ClickHouseStore(settings.metrics)
        await engine.open()
        stack.push_async_callback(engine.close)
        ids = SeriesIds(settings.bus.partitions)
        store = LocalStore(engine, ids)
    else:
        store = engine = DuckDBStore(settings.data_dir / "metrics", settings.metrics)
        await asyncio.to_thread(engine.open)
        stack.push_async_callback(engine.close)
        if settings.identity.backend != "keystone":
            await _check_owners(settings, resources, engine)
        await asyncio.to_thread(engine.forget_idle_series, int(clock() * 1000))
    quotas = Quotas(SqlUseStore(resources), clock, shared=resources.shared)
    people = await stack.enter_async_context(load_identity(settings, resources, clock, quotas))
    series_index = SeriesIndex((), settings.limits.series_per_project, ids)
    stores = notification_stores(resources)
    validation = Validation(stores.addresses, stores.codes, clock, time.monotonic, quotas)
    senders = load_channels(settings)
    notifier = Notifier(
        stores.outbox,
        stores.methods,
        senders,
        Composer(
            settings.base_url,
            make_code=validation.make_code,
            make_chart=Charts(store, series_index).of,
        ),
        settings.notify,
        clock,
    )
    stack.push_async_callback(notifier.close)
    dry_runs = DryRunner(store, series_index, rules_of(settings.alarms))
    stack.callback(dry_runs.close)
    base = Base(
        settings=settings,
        roles=roles,
        clock=clock,
        instruments=instruments,
        tasks=Supervisor(),
        resources=resources,
        engine=engine,
        store=store,
        series_index=series_index,
        ids=ids,
        quotas=quotas,
        people=people,
        alarms=SqlAlarmStore(resources),
        dry_runs=dry_runs,
        notifications=stores,
        feed=SqlFeedStore(resources),
        audit=SqlAuditStore(resources),
        senders=senders,
        validation=validation,
        notifier=notifier,
    )
    _watch(base)
    return base


async def _check_owners(settings: Settings, resources: Database, engine: DuckDBStore) -> None:
    projects = await SqlProjectStore(resources).ids()
    users = len(await SqlAccountStore(resources).list_users())
    stores_check.require_owners(settings, projects, users, await engine.owners())


async def ping_reads(base: Base) -> None:
    """Read measurements for real; raises UNAVAILABLE when that fails."""
    now_ms = int(base.clock() * 1000)
    await base.engine.read([0], now_ms - 1000, now_ms)


async def maintain(base: Base) -> None:
    """Seal, remove and forget what is due in the stores."""
    now_ms = int(base.clock() * 1000)
    await base.resources.refresh_secrets(base.settings)
    await base.engine.maintain(now_ms)
    await base.store.delete_before(now_ms - base.settings.metrics.retention_days * DAY_MS)
    kept_ms = base.settings.notify.keep_days * DAY_MS
    await base.notifications.log.forget(now_ms - kept_ms, FORGOTTEN_AT_ONCE)
    await base.alarms.forget_history(now_ms - kept_ms, FORGOTTEN_AT_ONCE)
    audited_ms = base.settings.identity.audit_days * DAY_MS
    await base.audit.forget(now_ms - audited_ms, FORGOTTEN_AT_ONCE)
    await base.people.purge_expired()
    await base.quotas.purge()


def _watch(base: Base) -> None:
    instruments, settings = base.instruments, base.settings
    instruments.watch_each("task_up", "Whether a background task is up.", "task", base.tasks.up)
    instruments.count_each(
        "task_restarts_total",
        "How often a background task ended and was started again.",
        "task",
        base.tasks.restarts,
    )
    instruments.count_each(
        "refusals_total",
        "Requests refused because a budget or quota was used up.",
        "budget",
        lambda: base.quotas.refused,
    )
    instruments.watch("series", "Series known.", lambda: len(base.series_index))
    instruments.watch(
        "disk_free_bytes",
        "Free space on the data directory's disk.",
        lambda: shutil.disk_usage(settings.data_dir).free,
    )
    instruments.count_each(
        "notifications_total",
        "Notifications with which the notifier is done.",
        "status",
        lambda: {status: base.notifier.counts[status] for status in (DELIVERED, FAILED)},
    )
    engine = base.engine
    if isinstance(engine, DuckDBStore):
        _watch_damage(instruments, engine)
        instruments.watch(
            "recent_tables",
            "Days with measurements not sealed.",
            lambda: len(engine.sources.tables),
        )
        instruments.watch(
            "partitions", "Sealed partitions.", lambda: len(engine.sources.partitions)
        )
        instruments.watch(
            "partition_bytes",
            "Size of the sealed partitions.",
            lambda: sum(p.bytes for p in engine.sources.partitions),
        )


def _watch_damage(instruments: Instruments, engine: DuckDBStore) -> None:
    instruments.watch(
        "damaged_partitions",
        "Sealed partitions that are damaged, and left out.",
        lambda: engine.condition.partitions,
    )
    instruments.watch(
        "damaged_tables",
        "Tables of measurements not sealed that are damaged, and left out.",
        lambda: engine.condition.tables,
    )
    instruments.watch(
        "measurements_left_out",
        "Measurements of the damaged partitions.",
        lambda: engine.condition.measurements,
    )
    instruments.watch(
        "quarantined_files", "Files in quarantine.", lambda: engine.condition.quarantined
    )


def watch_alarms(
    instruments: Instruments,
    alarms: Callable[[], float],
    lag_s: Callable[[], float],
    figure: Callable[[str], float],
) -> None:
    """Figures of evaluators."""
    instruments.watch("alarms", "Alarms that are watched.", alarms)
    instruments.watch(
        "evaluation_lag_seconds",
        "From the time that the newest evaluation was due until it was committed.",
        lag_s,
    )
    instruments.watch(
        "evaluation_duration_seconds",
        "That the newest evaluation of all alarms took.",
        lambda: figure("seconds"),
    )
    instruments.count(
        "evaluations_missed_total", "Minutes not evaluated in time.", lambda: figure("missed")
    )
    instruments.watch(
        "transitions_waiting", "Decisions not committed yet.", lambda: figure("uncommitted")
    )
