"""Moving house: wires a snapshot of the embedded data to the engines that it goes to."""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy import select

from heliometer.config import ResourceSettings, Settings, WrongSetting
from heliometer.migrate.journal import JournalFile
from heliometer.migrate.measurements import Compared, MeasurementMove
from heliometer.migrate.resources import ComparedTable, compare_resources, move_resources
from heliometer.storage.clickhouse.migration_target import ClickHouseTarget
from heliometer.storage.duckdb.snapshot import SnapshotReader, take
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql import postgresql_url
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.tables import ProjectRow

DAY_MS = 86_400_000
RESOURCES = "resources.sqlite"
METRICS = "metrics"

Show = Callable[[str, int, int], None]
"""Told what is being done, how much of it has been done since it was last told, and how much there
is of it; 0: that is not known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes where."""

    resources: str
    """The PostgreSQL, without its password; empty: they stay."""
    metrics: bool
    notes: list[str]
    """What does not move, and what else to know; a sentence each."""


@dataclass(slots=True)
class Moved:
    """What was found at the end."""

    tables: list[ComparedTable] = field(default_factory=list)
    measurements: Compared | None = None
    damaged: list[str] = field(default_factory=list)
    """Partitions of the source that could not be read, a sentence each."""

    @property
    def equal(self) -> bool:
        """Whether the target has exactly what the source had."""
        return (
            all(table.here == table.there for table in self.tables)
            and (self.measurements is None or self.measurements.equal)
            and not self.damaged
        )


def plan(source: Settings, target: Settings) -> Plan:
    """What moves from one to the other. Raises WrongSetting when nothing does."""
    notes = []
    resources = ""
    if postgresql_url.is_postgresql(source.resources.url):
        notes.append("The resources are in a PostgreSQL already; they stay there.")
    elif postgresql_url.is_postgresql(target.resources.url):
        resources = postgresql_url.parse(target.resources.url).shown
    else:
        notes.append("The resources stay: resources.url names no PostgreSQL.")
    metrics = bool(target.metrics.url) and not source.metrics.url
    if source.metrics.url:
        notes.append("The measurements are in a ClickHouse already; they stay there.")
    elif not metrics:
        notes.append("The measurements stay: metrics.url names no ClickHouse.")
    if not resources and not metrics:
        raise WrongSetting(f"there is nothing to move. {' '.join(notes)}")
    if resources and target.identity.backend == "keystone":
        notes.append(
            "Projects keep their ids: those that Keystone is to know need the same ids there."
        )
    if metrics and target.metrics.retention_days < source.metrics.retention_days:
        notes.append(
            f"The new service will remove measurements after {target.metrics.retention_days} "
            f"days, not {source.metrics.retention_days} (metrics.retention_days)."
        )
    waiting = waiting_messages(source.data_dir / "feed.sqlite")
    if waiting:
        notes.append(
            f"{waiting} messages of the feed wait for consumers and do not move: let the consumers "
            "take them first, or put feed.sqlite into the data directory of the new feed process "
            "before it starts."
            if target.amqp.backend == "builtin"
            else f"{waiting} messages of the feed wait for consumers and do not move to RabbitMQ: "
            "let the consumers take them first."
        )
    return Plan(resources, metrics, notes)


def waiting_messages(path: Path) -> int:
    """Messages of the feed that no consumer has acknowledged yet."""
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            (number,) = file.execute("SELECT coalesce(sum(next - first), 0) FROM queues").fetchone()
            return int(number)
    except sqlite3.Error:
        return 0


async def snapshot_resources(settings: Settings, folder: Path) -> None:
    """Copy the resources, also while a server uses them. Raises UNAVAILABLE."""
    database = await Database.open(settings)
    try:
        await database.backup(folder / RESOURCES)
    finally:
        await database.close()


async def snapshot_metrics(settings: Settings, folder: Path) -> None:
    """Make a snapshot of the measurements that no server uses. Raises StoreUnusable."""
    store = DuckDBStore(settings.data_dir / "metrics", settings.metrics)
    await asyncio.to_thread(store.open)
    try:
        await take(store, folder / METRICS)
    finally:
        await store.close()


async def move(
    source: Settings,
    target: Settings,
    what: Plan,
    folder: Path,
    snapshot: Path,
    show: Show,
    *,
    verify: bool,
    force: bool,
) -> Moved:
    """Bring the target what it lacks of a snapshot, unless ``verify``; then compare the two.

    ``folder`` is where the journals are. Raises CONFLICT for a target that is somebody else's,
    UNAVAILABLE when one does not answer, WrongSetting, StoreUnusable and UnusableDatabase.
    """
    moved = Moved()
    shares = target.bus.partitions if target.clustered else 1
    async with AsyncExitStack() as stack:
        # Both are opened first: what is wrong with either shows before anything is copied.
        there = engine = None
        if what.resources:
            there = await Database.open(target)
            stack.push_async_callback(there.close)
        if what.metrics:
            engine = ClickHouseTarget(target.metrics)
            stack.push_async_callback(engine.close)
            await engine.open()
        projects: list[str] = []
        here = None
        if (snapshot / RESOURCES).exists():
            url = f"sqlite+aiosqlite:///{(snapshot / RESOURCES).absolute()}"
            at_snapshot = msgspec.structs.replace(source, resources=ResourceSettings(url=url))
            here = await Database.open(at_snapshot)
            stack.push_async_callback(here.close)
            async with here.read() as connection:
                projects = list((await connection.execute(select(ProjectRow.id))).scalars())
        mover = None
        if engine is not None:
            reader = SnapshotReader(snapshot / METRICS, source.metrics.memory_bytes)
            stack.callback(reader.close)
            total = sum(day.rows for day in reader.days())
            mover = MeasurementMove(
                reader,
                engine,
                JournalFile(folder, engine.name),
                lambda day, rows: show(time.strftime("%F", time.gmtime(day * 86400)), rows, total),
                oldest_day=int(time.time() * 1000) // DAY_MS - source.metrics.retention_days,
                now_ms=int(time.time() * 1000),
            )
            stack.callback(mover.close)
            if not verify and not force:
                await mover.check_target(projects)
        if there is not None and here is not None:
            if not verify:
                file = JournalFile(folder, what.resources)
                await move_resources(
                    here, there, shares, file, lambda n: show("resources", n, 0), force=force
                )
            moved.tables = await compare_resources(here, there, shares)
        if mover is not None:
            moved.measurements = await mover.run(copy=not verify)
            moved.damaged = reader.damaged
    return moved


def clear(folder: Path) -> None:
    """Remove a snapshot, also one that a process left behind that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
