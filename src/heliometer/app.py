"""Wiring: builds everything in a straight line, and takes it apart in reverse.

This module alone knows everybody. Each thing registers its teardown as soon as it exists.
"""

import asyncio
import gc
import logging
import os
import resource
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from heliometer import collect, console, control
from heliometer.alarms.loop import Evaluator
from heliometer.collect.libvirt.owners import Owners, WrongOwners
from heliometer.collect.loop import run as run_collector
from heliometer.collect.schedule import Schedule
from heliometer.config import BOOTSTRAP_PASSWORD, Settings, WrongSetting
from heliometer.dialects import identity as identity_dialect
from heliometer.dialects import service as service_dialect
from heliometer.dialects import telemetry_v2
from heliometer.dialects.hp import v1_0, v1_1
from heliometer.dialects.push import influx, otlp, prometheus, statsd
from heliometer.feed import load_feed
from heliometer.feed.queues import Queues
from heliometer.http.app import HttpApp
from heliometer.http.limits import RateLimit
from heliometer.http.server import Server
from heliometer.identity.builtin import BuiltinIdentity
from heliometer.ingest.receipts import Receipts
from heliometer.ingest.registry import Registry
from heliometer.ingest.writer import Writer
from heliometer.model.measurements import RECEIPT_LIFE_MS
from heliometer.model.notifications import DELIVERED, FAILED
from heliometer.notify.heartbeat import beat
from heliometer.notify.kinds import Kind, Probed, load_kinds
from heliometer.notify.pipeline import Notifier
from heliometer.observe.figures import Figures
from heliometer.observe.logs import logging_to_stderr
from heliometer.stores.measurements.duckdb import DuckDBStore, StoreUnusable
from heliometer.stores.messages import MessagesUnusable, SqliteMessageStore
from heliometer.stores.resources.accounts import SqlAccountStore
from heliometer.stores.resources.alarms import SqlAlarmStore
from heliometer.stores.resources.database import Database
from heliometer.stores.resources.feed import SqlFeedStore
from heliometer.stores.resources.meters import SqlMeterStore
from heliometer.stores.resources.migrate import UnusableDatabase
from heliometer.stores.resources.notifications import SqlNotificationStore
from heliometer.stores.resources.projects import SqlProjectStore
from heliometer.stores.resources.tokens import SqlTokenStore
from heliometer.usecases.alarms import Alarms
from heliometer.usecases.backup import back_up
from heliometer.usecases.charts import Charts
from heliometer.usecases.health import Health
from heliometer.usecases.metering import Metering
from heliometer.usecases.meters import Meters
from heliometer.usecases.metrics import Metrics
from heliometer.usecases.notifications import Notifications
from heliometer.usecases.reports import Reports
from heliometer.usecases.samples import Samples
from heliometer.usecases.streams import Streams
from heliometer.usecases.validation import Validation

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
COLLECTOR_FIGURES = {
    "rounds": "Rounds of the collectors.",
    "measurements": "Measurements that they delivered.",
    "dropped": "Measurements that they gave up.",
    "errors": "Errors that they met.",
}
LIBVIRT_FIGURES = {
    "domains": "Running domains in the last round.",
    "vanished": "Domains that ended while they were read, in the last round.",
    "ownerless": "Domains that were left out because nobody says whose they are.",
}
FEED_FIGURES = {
    "published": "Messages put into the queues of all projects.",
    "queued": "Messages that wait for consumers, or for their acknowledgement.",
    "delivered": "Messages that consumers acknowledged.",
    "dropped": "Messages lost to the queues' bounds.",
    "consumers": "Consumers of the built-in feed.",
}
FORGOTTEN_AT_ONCE = 10_000
UPKEEP_S = 60
"""Seconds between two looks at what is to be sealed, removed or forgotten."""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that others work with."""

    settings: Settings
    identity: BuiltinIdentity
    store: DuckDBStore
    resources: Database
    metrics: Metrics
    http: HttpApp
    control: Any


@asynccontextmanager
async def running(
    settings: Settings, roles: frozenset[str], clock: Callable[[], float] = time.time
) -> AsyncIterator[Service]:
    """The whole service without its listeners, from the stores up.

    Raises WrongSetting, StoreUnusable or UnusableDatabase when it cannot start.
    """
    async with AsyncExitStack() as stack:
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise WrongSetting(
                f"server.data_dir: {settings.server.data_dir!r} cannot be made: {error.strerror}"
            ) from error
        figures = Figures()

        resources = await Database.open(settings)
        stack.push_async_callback(resources.close)
        store = DuckDBStore(settings.data_dir / "metrics", settings.metrics)
        await asyncio.to_thread(store.open)
        stack.push_async_callback(store.close)
        now_ms = int(clock() * 1000)
        await asyncio.to_thread(store.forget_idle_series, now_ms)

        projects = SqlProjectStore(resources)
        accounts = SqlAccountStore(resources)
        identity = BuiltinIdentity(accounts, SqlTokenStore(resources), settings, clock=clock)
        stack.callback(identity.close)
        await _bootstrap(identity)

        registry = Registry(await store.load_series(), settings.limits.series_per_project)
        receipts = Receipts(await store.load_receipts(now_ms - RECEIPT_LIFE_MS))
        messages = SqliteMessageStore(settings.data_dir / "feed.sqlite")
        await asyncio.to_thread(messages.open)
        stack.push_async_callback(messages.close)
        queues = Queues(
            messages,
            registry.__getitem__,
            registry.select,
            clock,
            limit=settings.amqp.queue_messages,
            keep_s=settings.amqp.queue_age,
        )
        writer = Writer(
            store,
            registry,
            limit=settings.limits.pending_measurements,
            committed=figures.committed,
            feeding=queues,
        )
        stack.push_async_callback(queues.close)
        feed_store = SqlFeedStore(resources)
        endpoints = await feed_store.load_endpoints()
        await queues.load([e.project_id for e in endpoints], await feed_store.load_subscriptions())
        feed = load_feed(settings.amqp, queues)
        stack.push_async_callback(feed.stop)
        stack.push_async_callback(writer.drain)
        metrics = Metrics(
            store,
            registry,
            writer,
            receipts,
            projects,
            settings.limits,
            settings.metrics.retention_days,
            clock,
        )

        reports = Reports(metrics, projects)

        alarm_store = SqlAlarmStore(resources)
        outbox = SqlNotificationStore(resources)
        validation = Validation(outbox, clock, time.monotonic)
        kinds = load_kinds(settings)
        notifier = Notifier(
            outbox,
            kinds,
            settings.notify,
            settings.base_url,
            clock,
            make_code=validation.make_code,
            make_chart=Charts(store, registry).of,
        )
        evaluator = Evaluator(
            store, registry, writer, alarm_store, settings.alarms, clock, committed=notifier.wake
        )
        stack.push_async_callback(evaluator.close)
        await evaluator.start()
        alarms = Alarms(
            alarm_store, evaluator, settings.limits, settings.metrics.retention_days, clock
        )
        notifications = Notifications(outbox, settings, clock, notifier.wake)

        meters = Meters(
            SqlMeterStore(resources), registry, writer, projects, settings.limits, clock
        )
        streams = Streams(feed_store, feed, settings.limits, clock)

        _watch(figures, settings, registry, writer, store)
        _watch_feed(figures, queues)
        _watch_alarms(figures, evaluator)
        for status in (DELIVERED, FAILED):
            figures.watch(
                f"notifications_{status}",
                f"Notifications that were {status}.",
                partial(notifier.counts.__getitem__, status),
            )
        health = Health(
            {"resources": resources.ping, "metrics": store.ping, "messages": messages.ping}
            | ({"alarms": evaluator.ping} if "evaluator" in roles else {})
            | ({"feed": feed.ping} if "feed" in roles else {})
            | _relays(kinds if "notifier" in roles else {}),
            time.monotonic,
        )
        samples = Samples(
            store, registry, meters, settings.limits, settings.metrics.retention_days, clock
        )
        dialects = [
            v1_1.dialect(
                metrics, reports, Metering(projects), alarms, notifications, validation, streams
            ),
            v1_0.dialect(alarms, notifications, streams),
            telemetry_v2.dialect(
                health,
                meters,
                samples,
                alarms,
                notifications,
            ),
            prometheus.dialect(metrics),
            otlp.dialect(metrics),
            influx.dialect(metrics),
            *identity_dialect.dialects(identity, settings),
            console.dialect(
                identity,
                console.UseCases(
                    metrics,
                    Metering(projects),
                    alarms,
                    notifications,
                    validation,
                    streams,
                    meters,
                    samples,
                    health,
                ),
            ),
            service_dialect.dialect(figures, lambda: http.dialects),
        ]
        http = HttpApp(
            dialects,
            identity,
            body_limit=settings.limits.body_bytes,
            bodies_bytes=settings.limits.bodies_bytes,
            rate_limit=RateLimit(settings.limits.requests_per_second, time.monotonic),
            figures=figures,
            public_url=settings.server.public_url,
            access=settings.log.access,
        )

        async def upkeep() -> None:
            now_ms = int(clock() * 1000)
            await store.maintain(now_ms)
            await messages.shrink()
            await store.delete_before(now_ms - settings.metrics.retention_days * DAY_MS)
            receipts.forget(now_ms)
            kept_ms = settings.notify.keep_days * DAY_MS
            await outbox.forget_deliveries(now_ms - kept_ms, FORGOTTEN_AT_ONCE)
            await alarm_store.forget_history(now_ms - kept_ms, FORGOTTEN_AT_ONCE)
            await identity.purge_expired()

        async def order_seal(_: dict[str, Any]) -> dict[str, Any]:
            await store.maintain(int(clock() * 1000), seal_all=True)
            return {"partitions": len(store.sources.partitions)}

        async def order_backup(arguments: dict[str, Any]) -> dict[str, Any]:
            target = Path(str(arguments["path"]))
            return {**(await back_up(store, resources, target)).to_dict()}

        orders: dict[str, control.Order] = {"seal": order_seal, "backup": order_backup}
        _background(stack, _repeat(upkeep, UPKEEP_S), "upkeep")
        _background(stack, queues.run(), "feed upkeep")
        await feed.start(endpoints, listen="feed" in roles)
        if "notifier" in roles:
            # The embedded database has one process: what the last one claimed, it left behind.
            await outbox.release_claims()
            _background(stack, notifier.run(), "notifier")
            if settings.notify.heartbeat_to:
                heart = beat(
                    kinds, settings.notify, settings.base_url, clock, lambda: evaluator.is_punctual
                )
                _background(stack, heart, "heartbeat")
        if "evaluator" in roles:
            _background(stack, evaluator.run(), "evaluator")
        if "api" in roles and settings.statsd.listen:
            await _take_statsd(stack, settings, accounts, metrics, figures, clock)
        if "collector" in roles and settings.collector.enabled:
            await _start_collectors(stack, settings, accounts, reports, figures, clock)
        yield Service(
            settings, identity, store, resources, metrics, http, control.control_app(orders)
        )


def serve(settings: Settings, roles: frozenset[str]) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit status."""
    with logging_to_stderr(settings.log):
        try:
            return asyncio.run(_serve(settings, roles))
        except (WrongSetting, StoreUnusable, MessagesUnusable, UnusableDatabase) as error:
            print(f"heliometer: {error}", file=sys.stderr)
            return 2


async def backup(settings: Settings, target: Path) -> Mapping[str, int]:
    """Back up the embedded data of a server that does not run."""
    store = DuckDBStore(settings.data_dir / "metrics", settings.metrics)
    async with AsyncExitStack() as stack:
        resources = await Database.open(settings)
        stack.push_async_callback(resources.close)
        await asyncio.to_thread(store.open)
        stack.push_async_callback(store.close)
        return (await back_up(store, resources, target)).to_dict()


async def _serve(settings: Settings, roles: frozenset[str]) -> int:
    _raise_file_limit()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        service = await stack.enter_async_context(running(settings, roles))
        # What was made to start with stays: looking through it again and again would hold up
        # every request for tens of milliseconds.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        server = Server(service.http, settings)
        try:
            unix = stack.enter_context(control.open_socket(settings.data_dir))
        except control.UnreachableSocket as error:
            log.warning("backup while serving is not possible: %s", error)
        else:
            orders = Server(service.control, None)
            task = asyncio.create_task(orders.run(unix), name="control")
            stack.callback((settings.data_dir / control.SOCKET).unlink, missing_ok=True)
            stack.push_async_callback(orders.finish, task)
        return await server.run(listener)


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.address
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # asyncio does this only for sockets that name their protocol. Without it a reply in two
        # parts waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise WrongSetting(
            f"server.listen: cannot listen on {settings.server.listen}: "
            f"{error.strerror or error}; is a server running there already? "
            "choose another with --listen HOST:PORT"
        ) from error


async def _bootstrap(identity: BuiltinIdentity) -> None:
    """On the first start make project and user ``demo``, and tell the password once."""
    given = os.environ.get(BOOTSTRAP_PASSWORD) or None
    made = await identity.bootstrap(given)
    if made is not None and given is None:
        print(
            "first start: made project demo and user demo with the password "
            f"{made}\n"
            "  (shown this once; change it with: heliometer user password demo)",
            file=sys.stderr,
            flush=True,
        )


async def _start_collectors(
    stack: AsyncExitStack,
    settings: Settings,
    accounts: SqlAccountStore,
    reports: Reports,
    figures: Figures,
    clock: Callable[[], float],
) -> None:
    """Report this machine to the project that the settings name, and its domains to theirs."""
    chosen = settings.collector
    project = await accounts.find_project(chosen.project)
    if project is None:
        log.warning(
            "this machine is not reported: there is no project %s (setting collector.project)",
            chosen.project,
        )
    own = project.id if project else ""

    async def intervals() -> Mapping[str, int]:
        found = await reports.intervals_s()
        return found | ({"": found[own]} if own in found else {})

    async def deliver(measurements: list[collect.Measurement]) -> None:
        await reports.collected(own, measurements)

    counts: Counter[str] = Counter()
    for name, what in COLLECTOR_FIGURES.items():
        figures.watch(f"collector_{name}", what, partial(counts.__getitem__, name))
    collectors: dict[str, collect.Collector] = {}
    if project is not None:
        collectors["host"] = await asyncio.to_thread(collect.load_collector, "host")
    if chosen.libvirt_uri:
        collectors["libvirt"] = await asyncio.to_thread(_libvirt, settings, counts)
        for name, what in LIBVIRT_FIGURES.items():
            figures.watch(f"libvirt_{name}", what, partial(counts.__getitem__, name))
    for name, collector in collectors.items():
        schedule = Schedule(intervals, fixed_s=chosen.interval)
        work = run_collector(collector, deliver, schedule, clock, counts=counts)
        _background(stack, work, f"{name} collector")


def _libvirt(settings: Settings, counts: Counter[str]) -> collect.Collector:
    chosen = settings.collector
    try:
        owners = Owners.load(Path(chosen.owners) if chosen.owners else None)
        return collect.load_collector(
            "libvirt", uri=chosen.libvirt_uri, owners=owners, counts=counts
        )
    except WrongOwners as error:
        raise WrongSetting(f"collector.owners: {error}") from error
    except ImportError as error:
        raise WrongSetting(
            f"collector.libvirt_uri needs libvirt's Python module ({error}): "
            "pip install heliometer[libvirt]"
        ) from error


async def _take_statsd(
    stack: AsyncExitStack,
    settings: Settings,
    accounts: SqlAccountStore,
    metrics: Metrics,
    figures: Figures,
    clock: Callable[[], float],
) -> None:
    project = await accounts.find_project(settings.statsd.project)
    if project is None:
        raise WrongSetting(
            f"statsd.project: there is no project {settings.statsd.project!r}; make it with "
            "heliometer project create"
        )
    listener = statsd.Statsd(settings.statsd, metrics, project.id, clock)
    for name, what in statsd.FIGURES.items():
        figures.watch(name, what, partial(listener.counts.__getitem__, name))
    await listener.start()
    stack.push_async_callback(listener.stop)
    _background(stack, listener.run(), "statsd")


def _watch(
    figures: Figures, settings: Settings, registry: Registry, writer: Writer, store: DuckDBStore
) -> None:
    figures.watch("series", "Series known.", lambda: len(registry))
    figures.watch(
        "pending_measurements", "Measurements that wait to be stored.", lambda: writer.pending
    )
    figures.watch(
        "recent_tables", "Days with measurements not sealed.", lambda: len(store.sources.tables)
    )
    figures.watch("partitions", "Sealed partitions.", lambda: len(store.sources.partitions))
    figures.watch(
        "partition_bytes",
        "Size of the sealed partitions.",
        lambda: sum(p.bytes for p in store.sources.partitions),
    )
    figures.watch(
        "disk_free_bytes",
        "Free space on the data directory's disk.",
        lambda: shutil.disk_usage(settings.data_dir).free,
    )


def _relays(kinds: Mapping[str, Kind]) -> dict[str, Callable[[], Awaitable[None]]]:
    """What takes messages, as far as it can be asked."""
    return {name.lower(): kind.ping for name, kind in kinds.items() if isinstance(kind, Probed)}


def _watch_feed(figures: Figures, queues: Queues) -> None:
    for name, what in FEED_FIGURES.items():
        figures.watch(f"feed_{name}", what, partial(_total, queues, name))


def _total(queues: Queues, name: str) -> float:
    return float(getattr(queues.total(), name))


def _watch_alarms(figures: Figures, evaluator: Evaluator) -> None:
    figures.watch("alarms", "Alarms that are watched.", lambda: len(evaluator))
    figures.watch(
        "evaluation_lag_seconds",
        "From the time that the newest evaluation was due until it was committed.",
        lambda: evaluator.lag_s,
    )
    figures.watch(
        "evaluation_duration_seconds",
        "That the newest evaluation of all alarms took.",
        lambda: evaluator.seconds,
    )
    figures.watch("evaluations_missed", "Minutes not evaluated in time.", lambda: evaluator.missed)
    figures.watch(
        "transitions_waiting", "Decisions not committed yet.", lambda: evaluator.uncommitted
    )


def _background(stack: AsyncExitStack, work: Any, name: str) -> None:
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)


async def _repeat(work: Callable[[], Any], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:
            log.exception("upkeep failed; it is tried again in %s s", seconds)


def _raise_file_limit() -> None:
    """Each connection takes a file descriptor: use as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 16
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, 1 << 16), hard))
