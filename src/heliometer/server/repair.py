"""Repairing the embedded data of a server that does not run."""

import asyncio
import time
from dataclasses import asdict

from heliometer.config import Settings
from heliometer.core.errors import UnusableData
from heliometer.identity.accounts import Project
from heliometer.server import stores_check
from heliometer.server.control_client import is_in_use
from heliometer.storage.duckdb.repair import Report, repair_store
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql.accounts import SqlAccountStore
from heliometer.storage.sql.database import Database


def repair(settings: Settings, *, apply: bool) -> dict[str, list[str]]:
    """Find out what is damaged and can be saved; with ``apply``, save it.

    Returns sentences: ``problems``, ``saved``, ``lost`` and ``kept``. Raises UnusableData when a
    server has the data open.
    """
    report = Report()
    if is_in_use(settings.data_dir):
        raise UnusableData(f"a server runs on {settings.data_dir}; stop it first")
    lost = stores_check.lost(settings)
    if not settings.metrics.url:
        report = repair_store(
            settings.data_dir / "metrics", settings.metrics.memory_bytes, apply=apply
        )
    report.problems += lost.values()
    if stores_check.METRICS in lost:
        report.lost.append("all measurements")
    if stores_check.RESOURCES in lost:
        report.lost.append("users, tokens, alarms, notification methods and all other resources")
        report.saved.append("the projects of measurements, by their ids, as recovered-…")
        if apply:
            asyncio.run(_make_projects(settings))
    if apply and lost:
        stores_check.remember(settings)
    return asdict(report)


async def _make_projects(settings: Settings) -> None:
    """Make a project for each id that has measurements, so that these can be reached again."""
    owners: set[str] = set()
    if not settings.metrics.url:
        store = DuckDBStore(settings.data_dir / "metrics", settings.metrics)
        await asyncio.to_thread(store.open)
        try:
            owners = await store.owners()
        finally:
            await store.close()
    resources = await Database.open(settings)
    try:
        accounts = SqlAccountStore(resources)
        known = {project.id for project in await accounts.list_projects()}
        for owner in sorted(owners - known):
            project = Project(owner, f"recovered-{owner[:16]}", True)
            await accounts.add_project(project, int(time.time() * 1000), "heliometer repair")
    finally:
        await resources.close()
