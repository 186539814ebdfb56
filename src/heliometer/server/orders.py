"""What the command line may order of a running server through its control socket."""

from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from heliometer.server import control
from heliometer.server.backup import back_up
from heliometer.server.common import Base
from heliometer.storage.duckdb.snapshot import take as take_snapshot
from heliometer.storage.duckdb.store import DuckDBStore


def orders(base: Base) -> Starlette | None:
    """The orders as an application; ``None`` unless this process alone has the data."""
    engine, resources = base.engine, base.resources
    if base.settings.clustered or not isinstance(engine, DuckDBStore):
        return None

    async def seal(_: dict[str, Any]) -> dict[str, Any]:
        await engine.maintain(int(base.clock() * 1000), seal_all=True)
        return {"partitions": len(engine.sources.partitions)}

    async def backup(arguments: dict[str, Any]) -> dict[str, Any]:
        target = Path(str(arguments["path"]))
        return {**(await back_up(engine, resources, target)).to_dict()}

    async def snapshot(arguments: dict[str, Any]) -> dict[str, Any]:
        await take_snapshot(engine, Path(str(arguments["path"])))
        return {}

    return control.control_app({"seal": seal, "backup": backup, "snapshot": snapshot})
