"""What the command line may ask of a running server through its control socket."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliometer.server.backup import back_up
from heliometer.server.common import Base
from heliometer.server.control import Command
from heliometer.server.control_client import ROTATE
from heliometer.storage.duckdb.snapshot import take as take_snapshot
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql.secret_keys import rotate


def commands(base: Base) -> Mapping[str, Command]:
    """The commands of a process that alone has its data; fewer where ClickHouse has it."""
    engine, resources = base.engine, base.resources

    async def rotate_secrets(arguments: dict[str, Any]) -> dict[str, Any]:
        force = bool(arguments.get("force"))
        return (await rotate(resources, base.settings, force=force)).to_dict()

    if not isinstance(engine, DuckDBStore):
        return {ROTATE: rotate_secrets}

    async def seal(_: dict[str, Any]) -> dict[str, Any]:
        await engine.maintain(int(base.clock() * 1000), seal_all=True)
        return {"partitions": len(engine.sources.partitions)}

    async def backup(arguments: dict[str, Any]) -> dict[str, Any]:
        target = Path(str(arguments["path"]))
        return {**(await back_up(engine, resources, target)).to_dict()}

    async def snapshot(arguments: dict[str, Any]) -> dict[str, Any]:
        await take_snapshot(engine, Path(str(arguments["path"])))
        return {}

    return {"seal": seal, "backup": backup, "snapshot": snapshot, ROTATE: rotate_secrets}
