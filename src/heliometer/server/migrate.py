"""Migration: wires a snapshot of the embedded data to the engines that it goes to."""

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from heliometer.config import ResourceSettings, Settings, WrongSetting
from heliometer.core.errors import Code, HeliometerError
from heliometer.migrate.comparison import Comparison
from heliometer.migrate.journal import JournalFile
from heliometer.migrate.measurements import MeasurementMigration
from heliometer.migrate.resources import ComparedTable, compare_resources, copy_resources
from heliometer.server.control_client import command, is_running
from heliometer.storage.clickhouse.migration_target import ClickHouseTarget
from heliometer.storage.duckdb.snapshot import SnapshotReader, take
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.feed_sqlite.waiting import waiting_messages
from heliometer.storage.sql import postgresql_url
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.projects import SqlProjectStore
from heliometer.storage.sql.table_copy import TableCopy

DAY_MS = 86_400_000
FOLDER = "moving"
"""Holds the journals, below the data directory."""
RESOURCES = "resources.sqlite"
METRICS = "metrics"

Progress = Callable[[str, int, int], None]
"""Called with the current task, how much of it was done since the last call, and how much there is
in all; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which data a migration moves, and to where."""

    resources: str
    """The PostgreSQL, without its password; empty: resources stay."""
    metrics: bool
    """Whether measurements go to ClickHouse."""
    notes: list[str]
    """What is not copied, and further remarks; a sentence each."""


@dataclass(slots=True)
class Result:
    """What was found at the end."""

    tables: list[ComparedTable] = field(default_factory=list)
    measurements: Comparison | None = None
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
    """What goes from one to the other. Raises WrongSetting when nothing does."""
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
    if resources:
        notes.append(
            f"Secrets stay encrypted with the keys in {source.secret_key_file}: every process of "
            f"the new service needs that file (secrets.key_file)."
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


@dataclass(frozen=True, slots=True)
class Migration:
    """One run of ``heliometer migrate``, which has the data directory's journals to itself."""

    source: Settings
    target: Settings
    plan: Plan
    folder: Path

    @property
    def snapshot(self) -> Path:
        """Where the source's state is while it is copied."""
        return self.folder / "snapshot"

    def take_snapshot(self) -> bool:
        """Keep the source as it is now; whether a server runs on it.

        Raises UNAVAILABLE, WrongSetting and UnusableData.
        """
        self.snapshot.mkdir(mode=0o700)
        running = is_running(self.source.data_dir)
        # The resources come second: every project of a measurement is among them.
        if self.plan.metrics:
            if running:
                path = (self.snapshot / METRICS).absolute()
                command(self.source.data_dir, "snapshot", {"path": str(path)})
            else:
                asyncio.run(self._snapshot_metrics())
        if not postgresql_url.is_postgresql(self.source.resources.url):
            asyncio.run(self._snapshot_resources())
        return running

    async def _snapshot_metrics(self) -> None:
        store = DuckDBStore(self.source.data_dir / "metrics", self.source.metrics)
        await asyncio.to_thread(store.open)
        try:
            await take(store, self.snapshot / METRICS)
        finally:
            await store.close()

    async def _snapshot_resources(self) -> None:
        database = await Database.open(self.source, make_key=False)
        try:
            await database.backup(self.snapshot / RESOURCES)
        finally:
            await database.close()

    def run(self, progress: Progress, *, copy: bool, force: bool) -> Result:
        """With ``copy``, bring the target what it lacks of the snapshot; then compare the two.

        ``force`` accepts targets that hold other data. Raises CONFLICT for those otherwise,
        UNAVAILABLE when one does not answer, WrongSetting and UnusableData.
        """
        return asyncio.run(self._run(progress, copy=copy, force=force))

    async def _run(self, progress: Progress, *, copy: bool, force: bool) -> Result:
        result = Result()
        async with AsyncExitStack() as stack:
            # Both are opened first: what is wrong with either shows before anything is copied.
            there = await self._open_target_resources(stack) if self.plan.resources else None
            engine = await self._open_clickhouse(stack) if self.plan.metrics else None
            here = await self._open_source_resources(stack)
            measurements = None
            if engine is not None:
                measurements = self._measurements(stack, engine, result, progress)
                if copy and not force:
                    projects = [] if here is None else await SqlProjectStore(here).ids()
                    await measurements.check_target(projects)
            if there is not None and here is not None:
                shards = self.target.bus.partitions if self.target.clustered else 1
                tables = TableCopy(here, there, shards)
                if copy:
                    file = JournalFile(self.folder, self.plan.resources)
                    await copy_resources(
                        tables, file, lambda rows: progress("resources", rows, 0), force=force
                    )
                result.tables = await compare_resources(tables)
            if measurements is not None:
                result.measurements = await measurements.run(copy=copy)
        return result

    async def _open_target_resources(self, stack: AsyncExitStack) -> Database:
        # What is copied stays encrypted with the source's key.
        database = await Database.open(self.target, make_key=False)
        stack.push_async_callback(database.close)
        return database

    async def _open_clickhouse(self, stack: AsyncExitStack) -> ClickHouseTarget:
        engine = ClickHouseTarget(self.target.metrics)
        stack.push_async_callback(engine.close)
        await engine.open()
        return engine

    async def _open_source_resources(self, stack: AsyncExitStack) -> Database | None:
        path = self.snapshot / RESOURCES
        if not path.exists():
            return None
        url = f"sqlite+aiosqlite:///{path.absolute()}"
        database = await Database.open(
            msgspec.structs.replace(self.source, resources=ResourceSettings(url=url)),
            make_key=False,
        )
        stack.push_async_callback(database.close)
        return database

    def _measurements(
        self, stack: AsyncExitStack, engine: ClickHouseTarget, result: Result, progress: Progress
    ) -> MeasurementMigration:
        reader = SnapshotReader(self.snapshot / METRICS, self.source.metrics.memory_bytes)
        stack.callback(reader.close)
        result.damaged = reader.damaged
        total = sum(day.rows for day in reader.days())
        now_ms = int(time.time() * 1000)
        migration = MeasurementMigration(
            reader,
            engine,
            JournalFile(self.folder, engine.name),
            lambda day, rows: progress(time.strftime("%F", time.gmtime(day * 86400)), rows, total),
            oldest_day=now_ms // DAY_MS - self.source.metrics.retention_days,
            now_ms=now_ms,
        )
        stack.callback(migration.close)
        return migration


@contextmanager
def migration(source: Settings, target: Settings, what: Plan) -> Iterator[Migration]:
    """A migration to itself, until we end, however that is; the snapshot is removed at the end.

    Raises CONFLICT while another is under way.
    """
    folder = source.data_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HeliometerError(
                Code.CONFLICT, f"another migrate is under way in {source.data_dir}"
            ) from error
        run = Migration(source, target, what, folder)
        # One that was killed may have left its snapshot behind.
        shutil.rmtree(run.snapshot, ignore_errors=True)
        try:
            yield run
        finally:
            shutil.rmtree(run.snapshot, ignore_errors=True)
    finally:
        os.close(descriptor)
