"""Checks of the two stores. They read; only opening the measurements may tidy up after a crash."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from heliometer.cli.server_probe import Probe
from heliometer.config import Settings
from heliometer.core.finding import FAIL, OK, WARN, Finding

SOME = 5


def resources(settings: Settings, server: Probe) -> Iterator[Finding]:
    """Whether the resource database opens, is whole, and has the tables of this version."""
    from sqlalchemy.engine import make_url

    name = "resources"
    if settings.resources.url.startswith("postgres"):
        from heliometer.cli import checks_postgresql

        yield from checks_postgresql.resources(settings, _known_revisions())
        return
    path = make_url(settings.resources_url).database or ""
    again = "restore a backup: heliometer restore FILE --data-dir NEW"
    try:
        with closing(sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA query_only=ON")
            wrong = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
            revisions = {
                row[0] for row in connection.execute("SELECT version_num FROM alembic_version")
            }
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) and not _exists(path):
            yield Finding(name, OK, f"{path} is not there yet; the first start makes it")
        else:
            yield Finding(name, FAIL, f"{path} cannot be used: {error}", again)
        return
    except sqlite3.DatabaseError as error:
        yield Finding(name, FAIL, f"{path} is damaged: {error}", again)
        return
    if wrong != ["ok"]:
        yield Finding(name, FAIL, f"{path} is damaged: {'; '.join(wrong)}", again)
        return
    known = _known_revisions()
    if revisions - set(known):
        yield Finding(
            name, FAIL, f"{path} was written by a newer version ({', '.join(revisions)})",
            "upgrade heliometer",
        )  # fmt: skip
    elif revisions != {known[0]}:
        yield Finding(
            name, WARN, f"{path} has the tables of an older version",
            "the next start of the server upgrades it; back it up first",
        )  # fmt: skip
    else:
        yield Finding(name, OK, f"{path} is whole and up to date (revision {known[0]})")


def measurements(settings: Settings, server: Probe) -> Iterator[Finding]:
    """Whether the measurement store opens and has every partition that it names, undamaged."""
    name = "measurements"
    if settings.metrics.url:
        from heliometer.cli import checks_clickhouse

        yield from checks_clickhouse.measurements(settings)
        return
    if server.controls:
        yield from _ask(name, server)
        return
    folder = settings.data_dir / "metrics"
    if not (folder / "recent.duckdb").exists():
        yield Finding(name, OK, "none yet; the first start makes the store")
        return
    from heliometer.storage.duckdb.store import DuckDBStore
    from heliometer.storage.errors import StoreUnusable

    async def verify() -> tuple[list[str], int]:
        store = DuckDBStore(folder, settings.metrics)
        await asyncio.to_thread(store.open)
        try:
            return await store.verify(), len(store.sources.partitions)
        finally:
            await store.close()

    try:
        wrong, partitions = asyncio.run(verify())
    except StoreUnusable as error:
        yield Finding(name, FAIL, str(error), "end that process, or restore a backup")
        return
    for text in wrong[:SOME]:
        yield Finding(name, FAIL, text, "restore a backup to have its measurements again")
    if len(wrong) > SOME:
        yield Finding(name, FAIL, f"{len(wrong) - SOME} more partitions are damaged")
    if not wrong:
        yield Finding(
            name, OK, f"the store opens; {partitions} sealed partitions have their checksums"
        )


def _ask(name: str, server: Probe) -> Iterator[Finding]:
    if server.health == 503:
        yield Finding(
            name, FAIL, f"the running server is not well: {server.health_body[:300]}",
            "its log says more",
        )  # fmt: skip
    elif server.health == 200:
        yield Finding(name, OK, "the running server reads and writes them")
    elif server.ours:
        yield Finding(name, OK, "the running server has them open and answers")
    else:
        yield Finding(
            name, WARN, f"a server has them open, but none answers at {server.url}",
            "say --config, or set HELIOMETER_SERVER_LISTEN, as for the server",
        )  # fmt: skip


def _known_revisions() -> list[str]:
    """The revisions that this version knows, newest first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "heliometer.storage.sql:migrations")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    return [script.revision for script in scripts.walk_revisions()]


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _exists(path: str) -> bool:
    from pathlib import Path

    return Path(path).exists()
