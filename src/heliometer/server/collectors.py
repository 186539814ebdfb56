"""What reports to the service from within it: this machine, its hypervisor, StatsD."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from heliometer import collectors as collect
from heliometer.collectors.libvirt.owners import Owners, WrongOwners
from heliometer.collectors.loop import run as run_collector
from heliometer.collectors.schedule import Schedule
from heliometer.config import Settings, WrongSetting
from heliometer.metrics.reports import Reports
from heliometer.metrics.service import Metrics
from heliometer.server.common import Base
from heliometer.statsd import listener as statsd

log = logging.getLogger(__name__)

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


async def start_collectors(stack: AsyncExitStack, base: Base, reports: Reports) -> None:
    """Report this machine to the project that the settings name, and its domains to theirs."""
    settings, instruments, chosen = base.settings, base.instruments, base.settings.collector
    project = await base.people.find_project(chosen.project)
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
        instruments.count(f"collector_{name}_total", what, partial(counts.__getitem__, name))
    collectors: dict[str, collect.Collector] = {}
    if project is not None:
        collectors["host"] = await asyncio.to_thread(collect.load_collector, "host")
    if chosen.libvirt_uri:
        collectors["libvirt"] = await asyncio.to_thread(_libvirt, settings, counts)
        for name, what in LIBVIRT_FIGURES.items():
            instruments.watch(f"libvirt_{name}", what, partial(counts.__getitem__, name))
    for name, collector in collectors.items():
        schedule = Schedule(intervals, fixed_s=chosen.interval)
        work = partial(run_collector, collector, deliver, schedule, base.clock, counts=counts)
        base.tasks.run(stack, work, f"{name}-collector")


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


async def take_statsd(stack: AsyncExitStack, base: Base, metrics: Metrics) -> None:
    """Listen for StatsD. Raises WrongSetting."""
    settings = base.settings
    project = await base.people.find_project(settings.statsd.project)
    if project is None:
        raise WrongSetting(
            f"statsd.project: there is no project {settings.statsd.project!r}; make it with "
            "heliometer project create"
        )
    listener = statsd.Statsd(settings.statsd, metrics, project.id, base.clock)
    for name, what in statsd.FIGURES.items():
        base.instruments.count(f"{name}_total", what, partial(listener.counts.__getitem__, name))
    await listener.start()
    stack.push_async_callback(listener.stop)
    base.tasks.run(stack, listener.run, "statsd")
