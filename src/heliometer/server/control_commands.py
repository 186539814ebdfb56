"""What the command line may ask of a running server through its control socket."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliometer.server.backup import back_up
from heliometer.server.common import Base
from heliometer.server.control import Command
from heliometer.storage.duckdb.snapshot import take as take_snapshot
from heliometer.storage.duckdb.store import DuckDBStore


def commands(base: Base) -> Mapping[str, Command]:
    """The commands of a process that alone has its data; none where ClickHouse has it."""
    engine, resources = base.engine, base.resources
    if not isinstance(engine, DuckDBStore):
        return {}

    async def seal(_: dict[str, Any]) -> dict[str, Any]:
        await engine.maintain(int(base.clock() * 1000), seal_all=True)
        return {"partitions": len(engine.sources.partitions)}

    async def backup(arguments: dict[str, Any]) -> dict[str, Any]:
        target = Path(str(arguments["path"]))
        return {**(await back_up(engine, resources, target)).to_dict()}

    async def snapshot(arguments: dict[str, Any]) -> dict[str, Any]:
        await take_snapshot(engine, Path(str(arguments["path"])))
        return {}

    return {"seal": seal, "backup": backup, "snapshot": snapshot}
