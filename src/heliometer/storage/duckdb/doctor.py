"""The check of measurements in DuckDB. It only reads; opening may tidy up after a crash."""

import asyncio
from collections.abc import Iterator, Sequence

from heliometer.config import Settings
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.server_status import ServerStatus
from heliometer.storage.duckdb.condition import problem as problem_of
from heliometer.storage.duckdb.log_mark import LogMark
from heliometer.storage.duckdb.quarantine import Quarantine
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.errors import StoreUnusable

NAME = "measurements"
REPAIR = (
    "stop the server; heliometer repair shows what can be saved, and heliometer repair --apply "
    "saves it; or restore a backup"
)
SHOWN = 5
"""The most damaged partitions that are named one by one."""


def measurements(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Checks whether the store opens and has every partition of its catalog, undamaged."""
    if settings.metrics.url:
        return
    folder = settings.data_dir / "metrics"
    if server.has_data_dir:
        yield _running(server)
        yield from _problems(
            [f"{e.path} is in quarantine: {e.why}" for e in Quarantine(folder).entries()]
        )
        return
    problem = problem_of(folder / "recent.duckdb", LogMark(folder / "recent.duckdb"))
    if problem:
        yield Finding(NAME, FAIL, problem, REPAIR)
        return
    if not (folder / "recent.duckdb").exists():
        yield Finding(NAME, OK, "none yet; the first start makes the store")
        return

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
        yield Finding(NAME, FAIL, str(error), "end that process, or restore a backup")
        return
    yield from _problems(wrong)
    if not wrong:
        yield Finding(
            NAME, OK, f"the store opens; the checksums of {partitions} sealed partitions are right"
        )


def _problems(wrong: Sequence[str]) -> Iterator[Finding]:
    for text in wrong[:SHOWN]:
        yield Finding(NAME, FAIL, text, REPAIR)
    if len(wrong) > SHOWN:
        yield Finding(NAME, FAIL, f"{len(wrong) - SHOWN} more problems", REPAIR)


def _running(server: ServerStatus) -> Finding:
    if server.health == 503:
        return Finding(
            NAME, FAIL, f"the running server reports a failure: {server.health_body[:300]}",
            "see its log",
        )  # fmt: skip
    if server.health == 200 and '"damage"' in server.health_body:
        text = f"the running server leaves out what is damaged: {server.health_body[:300]}"
        return Finding(NAME, FAIL, text, REPAIR)
    if server.health == 200:
        return Finding(NAME, OK, "the running server reads and writes them")
    if server.ours:
        return Finding(NAME, OK, "the running server has them open and answers")
    return Finding(
        NAME, WARN, f"a server has them open, but none answers at {server.url}",
        "use the server's own --config or HELIOMETER_SERVER_LISTEN",
    )  # fmt: skip
