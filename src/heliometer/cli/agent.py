"""The agent: collectors in their loops, a sender, and health measurements about both."""

import asyncio
import hashlib
import logging
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heliometer.cli.access import Access
from heliometer.cli.errors import CommandError
from heliometer.cli.table import table
from heliometer.collectors import Collector, Due, Measurement, load_collector
from heliometer.collectors.host.instance import instance_id
from heliometer.collectors.loop import run as run_collector
from heliometer.collectors.schedule import Schedule
from heliometer.collectors.spool import Spool, SpoolInUse
from heliometer.core.errors import HeliometerError

if TYPE_CHECKING:
    from heliometer.cli.report_sender import Sender

log = logging.getLogger(__name__)

NAMESPACE = "heliometer.agent"
"""Namespace of the agent's measurements about itself, in its own project."""
ANSWER_S = 20.0
LOOK_S = 2.0
"""Seconds between the two readings of a dry run."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent, with the options of the command line."""

    access: Access
    collectors: tuple[str, ...]
    libvirt_uri: str
    owners: Path | None
    interval_s: int
    spool: Path | None
    spool_bytes: int
    spread_s: float

    def run(self) -> int:
        """Report until SIGTERM or SIGINT; returns the exit status. Raises CommandError."""
        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s"
        )
        logging.getLogger("httpx").setLevel(logging.WARNING)
        from heliometer.cli.report_sender import Sender

        spool = Spool(self.spool or _default_spool(), self.spool_bytes)
        try:
            spool.open()
        except SpoolInUse as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(
                f"{spool.folder}: {error.strerror or error}; choose another folder with --spool"
            ) from error
        try:
            with self.access.connect(attempts=1, timeout_s=ANSWER_S) as client:
                asyncio.run(self._report(Sender(client, spool), spool))
        finally:
            spool.close()
        return 0

    async def _report(self, sender: "Sender", spool: Spool) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # Each machine starts at a moment of its own in the interval, always the same.
        digest = hashlib.blake2b(instance_id().encode(), digest_size=4).digest()
        offset = int.from_bytes(digest) / (1 << 32) * 300
        tasks = []
        for name in self.collectors:
            counts: Counter[str] = Counter()
            collector = WithHealth(self.load(name, counts), name, sender, spool, counts)
            schedule = Schedule(sender.intervals, fixed_s=self.interval_s, offset_s=offset)
            log.info("collecting %s for %s", name, self.access.url or "the server of the catalog")
            tasks.append(
                asyncio.create_task(
                    self._begin(collector, sender, schedule, counts), name=f"collector {name}"
                )
            )
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, stopped):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for task in done - {stopped}:
            task.result()

    async def _begin(
        self, collector: Collector, sender: "Sender", schedule: Schedule, counts: Counter[str]
    ) -> None:
        await asyncio.sleep(random.uniform(0, self.spread_s))  # noqa: S311
        await run_collector(collector, sender.deliver, schedule, time.time, counts=counts)

    def load(self, name: str, counts: Counter[str]) -> Collector:
        """Make a collector. Raises CommandError."""
        if name != "libvirt":
            return load_collector(name)
        from heliometer.collectors.libvirt.owners import Owners, WrongOwners

        try:
            owners = Owners.load(self.owners)
            return load_collector(name, uri=self.libvirt_uri, owners=owners, counts=counts)
        except WrongOwners as error:
            raise CommandError(str(error)) from error
        except ImportError as error:
            raise CommandError(
                f"collector libvirt needs libvirt's Python module ({error}): "
                "pip install heliometer[libvirt], which needs libvirt-dev, pkg-config and gcc"
            ) from error


class WithHealth:
    """A collector that also reports the health of the agent (see ``docs/collectors.md``)."""

    def __init__(
        self,
        collector: Collector,
        name: str,
        sender: "Sender",
        spool: Spool,
        counts: Counter[str],
    ) -> None:
        self._collector = collector
        self._sender = sender
        self._spool = spool
        self._counts = counts
        self._dimensions = {"host": socket.gethostname() or "localhost", "collector": name}

    def collect(self, timestamp_ms: int, due: Due) -> list[Measurement]:
        """The collector's measurements, if any, and the agent's health, even if the collector
        failed."""
        began = time.monotonic()
        try:
            found = self._collector.collect(timestamp_ms, due)
        except Exception:
            if due(""):  # the failure must be visible to alarms on the server
                self._sender.deliver_now(self._health(timestamp_ms, began, up=0))
            raise
        if due(""):
            found += self._health(timestamp_ms, began, up=1)
        return found

    def _health(self, timestamp_ms: int, began: float, up: int) -> list[Measurement]:
        files, size = self._spool.size()
        sent = self._sender.counts
        values = {
            "agent_up": up,
            "agent_round_seconds": round(time.monotonic() - began, 6),
            "agent_clock_skew_seconds": round(self._sender.skew_s or 0.0, 1),
            "agent_spool_reports": files,
            "agent_spool_bytes": size,
            "agent_reports_sent": sent["reports_sent"],
            "agent_reports_dropped": sent["reports_dropped"],
            "agent_parts_refused": sent["refused"],
            "agent_errors": self._counts["errors"] + sent["send_errors"],
        }
        for name in ("domains", "vanished", "ownerless"):
            if name in self._counts:
                values[f"agent_{name}"] = self._counts[name]
        return [
            Measurement(
                NAMESPACE, {**self._dimensions, "metric_name": name}, timestamp_ms, float(value)
            )
            for name, value in values.items()
        ]


def show(agent: Agent) -> int:
    """Print what one round would report, with deltas over two seconds."""
    found: list[Measurement] = []
    collectors = [agent.load(name, Counter()) for name in agent.collectors]
    try:
        for collector in collectors:
            collector.collect(0, lambda _: True)
        time.sleep(LOOK_S)
        for collector in collectors:
            found += collector.collect(int(time.time()) * 1000, lambda _: True)
    except HeliometerError as error:
        raise CommandError(f"{error.message} {error.details}".strip()) from error
    rows = [
        (
            m.project_id or "(own)",
            m.namespace,
            m.dimensions["instance_id"],
            m.dimensions.get("device", m.dimensions.get("disk", "")),
            m.dimensions["metric_name"],
            f"{m.value:g}",
        )
        for m in found
    ]
    head = ("PROJECT", "NAMESPACE", "INSTANCE", "DEVICE", "METRIC", "VALUE")
    click.echo(table(head, rows, "<<<<<>"))
    click.echo(
        f"{len(found)} measurements, differences over {LOOK_S:g} s; nothing was sent", err=True
    )
    return 0


def _default_spool() -> Path:
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state:
        return Path(state) / "spool"
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "heliometer" / "spool"
