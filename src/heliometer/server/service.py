"""The whole service without its listeners, from the stores up."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from heliometer.alarms.service import Alarms
from heliometer.api import service as service_dialect
from heliometer.api import telemetry
from heliometer.api.services import Services
from heliometer.config import Settings
from heliometer.core.background import Repeated, Supervisor
from heliometer.core.health import Health
from heliometer.feed.service import Streams
from heliometer.http.answers import AnswerBudget
from heliometer.http.app import HttpApp, HttpOptions
from heliometer.http.limits import RateLimit
from heliometer.http.operation import Dialect
from heliometer.http.proxies import TrustedProxies
from heliometer.identity.audit import AuditTrail
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.invitations import Invitations
from heliometer.meters.samples import Samples
from heliometer.meters.service import Meters
from heliometer.metrics.reports import Reports
from heliometer.metrics.service import Metrics
from heliometer.notifications.backlog import LOOK_S, BacklogWatch
from heliometer.notifications.channels.channel import Probed, Sender
from heliometer.notifications.heartbeat import beat
from heliometer.notifications.message_quotas import MessageQuotas
from heliometer.notifications.service import Notifications
from heliometer.projects.metering import Metering
from heliometer.server.collectors import start_collectors, take_statsd
from heliometer.server.common import Base, Core, open_base, ping_reads
from heliometer.server.control import Command
from heliometer.server.dialects import DIALECTS
from heliometer.server.embedded import embedded
from heliometer.storage.sql.invitations import SqlInvitationStore
from heliometer.storage.sql.meters import SqlMeterStore

REPORT_S = 5
"""Seconds between two checks of what works here, which are reported to other processes."""
UPKEEP_S = 60
"""Seconds between two looks at what is to be sealed, removed or forgotten."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a process or a test needs of the running service."""

    settings: Settings
    http: HttpApp
    commands: Mapping[str, Command]
    """Of the command line; none where other processes share the data."""
    drain_s: float
    """How long the process keeps serving after the signal to stop, in seconds."""
    tasks: Supervisor
    """Whatever runs in the background."""
    leaving: Callable[[], None]
    """Makes health report that this process is about to stop."""


@asynccontextmanager
async def running(
    settings: Settings, roles: frozenset[str], clock: Callable[[], float] = time.time
) -> AsyncIterator[Service]:
    """The whole service without its listeners, from the stores up.

    Raises WrongSetting or UnusableData when it cannot start.
    """
    async with AsyncExitStack() as stack:
        base = await open_base(stack, settings, roles, clock)
        # The only place that asks; whatever differs is in the core.
        core = await _assembly(settings)(stack, base)
        parts = _parts(base, core)
        http = _http(parts)
        await _start(stack, parts)
        yield Service(settings, http, core.commands, core.drain_s, base.tasks, parts.health.leave)


def _assembly(settings: Settings) -> Callable[[AsyncExitStack, Base], Awaitable[Core]]:
    """How this process stores, evaluates and serves."""
    if not settings.clustered:
        return embedded
    # Not at the top: a single node needs neither its code nor the client of RabbitMQ.
    from heliometer.server.clustered import clustered

    return clustered


@dataclass(frozen=True, slots=True)
class _Parts:
    """What interfaces and background tasks have in common."""

    base: Base
    core: Core
    metrics: Metrics
    reports: Reports
    health: Health


def _parts(base: Base, core: Core) -> _Parts:
    settings = base.settings
    metrics = Metrics(
        base.store,
        base.series_index,
        core.transport,
        core.receipts,
        base.people.projects,
        settings.limits,
        settings.metrics.retention_days,
        base.clock,
    )
    health = Health(
        {
            "resources": base.resources.ping,
            "metrics": base.store.ping,
            **core.needed,
            **base.people.probes,
        },
        {
            "tasks": base.tasks.ping,
            **core.others,
            **_relays(base.senders if "notifier" in base.roles else {}),
        },
        {
            "resources": base.resources.ping_read,
            "metrics": partial(ping_reads, base),
            **base.people.probes,
        },
        time.monotonic,
        core.peers.failed,
    )
    return _Parts(base, core, metrics, Reports(metrics, base.people.projects), health)


def _http(parts: _Parts) -> HttpApp:
    """The dialects, or what a process without the role ``api`` answers."""
    base, settings = parts.base, parts.base.settings
    is_api = "api" in base.roles
    dialects: list[Dialect] = [
        *(_dialects(parts) if is_api else ()),
        service_dialect.dialect(base.instruments, parts.health, lambda: http.dialects),
        *(() if is_api else (telemetry.health_dialect(parts.health),)),
    ]
    http = HttpApp(
        dialects,
        base.people.identity,
        HttpOptions(
            body_bytes=settings.limits.body_bytes,
            bodies_bytes=settings.limits.bodies_bytes,
            answers=AnswerBudget(
                settings.limits.answers_bytes, settings.limits.answers_bytes_per_project
            ),
            rate_limit=RateLimit(settings.limits.requests_per_second, time.monotonic),
            proxies=TrustedProxies(settings.trusted_proxies),
            hsts_s=settings.server.hsts_seconds,
            public_url=settings.server.public_url,
            access=settings.log.access,
        ),
        base.instruments,
    )
    return http


async def _start(stack: AsyncExitStack, parts: _Parts) -> None:
    """Begin what the roles do in the background."""
    base, core, settings, clock = parts.base, parts.core, parts.base.settings, parts.base.clock
    tasks = base.tasks

    async def upkeep() -> None:
        core.receipts.forget(int(clock() * 1000))
        await core.upkeep()

    async def report() -> None:
        core.peers.report(await parts.health.failed_here())

    tasks.run(stack, Repeated(upkeep, UPKEEP_S), "upkeep")
    await core.start()
    if core.peers.any:
        tasks.run(stack, Repeated(report, REPORT_S), "own-health")
    if "notifier" in base.roles:
        tasks.run(stack, base.notifier.run, "notifier")
        _watch_outbox(stack, base)
        if settings.notify.heartbeat_to:
            heart = partial(
                beat, base.senders, settings.notify, settings.base_url, clock, core.is_punctual
            )
            tasks.run(stack, heart, "heartbeat")
    if "api" in base.roles and settings.statsd.listen:
        await take_statsd(stack, base, parts.metrics)
    if "collector" in base.roles and settings.collector.enabled:
        await start_collectors(stack, base, parts.reports)


def _watch_outbox(stack: AsyncExitStack, base: Base) -> None:
    backlog = BacklogWatch(base.notifications.log, base.clock)
    base.instruments.watch(
        "outbox_waiting", "Notifications to be delivered, those tried in vain included.",
        backlog.waiting,
    )  # fmt: skip
    base.instruments.watch(
        "outbox_oldest_age_seconds", "How long the oldest of them has waited.", backlog.age_s
    )
    base.tasks.run(stack, Repeated(backlog.look, LOOK_S), "outbox-watch")


def _dialects(parts: _Parts) -> list[Dialect]:
    """Everything that clients and people use."""
    base, core, settings, clock = parts.base, parts.core, parts.base.settings, parts.base.clock
    alarms = Alarms(
        base.alarms,
        core.watcher,
        core.explainer,
        base.dry_runs,
        settings.limits,
        settings.metrics.retention_days,
        clock,
    )
    notifications = Notifications(
        base.notifications,
        settings,
        clock,
        MessageQuotas(base.quotas, settings.limits),
        core.wake,
    )
    meters = Meters(
        SqlMeterStore(base.resources),
        base.series_index,
        core.transport,
        base.people.projects,
        settings.limits,
        clock,
        core.peers,
    )
    core.peers.on_meters_changed(meters.forget)
    streams = Streams(base.feed, core.feed, settings.limits, clock)
    samples = Samples(
        base.store,
        base.series_index,
        meters,
        settings.limits,
        settings.metrics.retention_days,
        clock,
    )
    services = Services(
        settings=settings,
        identity=base.people.identity,
        metrics=parts.metrics,
        reports=parts.reports,
        metering=Metering(base.people.projects),
        alarms=alarms,
        notifications=notifications,
        validation=base.validation,
        streams=streams,
        meters=meters,
        samples=samples,
        health=parts.health,
        audit=AuditTrail(base.audit),
        invitations=_invitations(base),
    )
    return [dialect(services) for dialect in DIALECTS]


def _invitations(base: Base) -> Invitations | None:
    identity = base.people.identity
    if not isinstance(identity, BuiltinIdentity):
        return None
    store = SqlInvitationStore(base.resources)
    return Invitations(store, base.clock, identity.find_user, identity.new_user)


def _relays(senders: Mapping[str, Sender]) -> dict[str, Callable[[], Awaitable[None]]]:
    """What takes messages, as far as it can be asked."""
    return {t.lower(): sender.ping for t, sender in senders.items() if isinstance(sender, Probed)}
