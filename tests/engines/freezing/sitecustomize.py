"""Makes a ``heliometer`` process stand still at its worst moments.

On ``PYTHONPATH`` of the process, which stops itself, as a debugger or want of memory would
stop it, where a file in the folder ``STAND_STILL`` says so; who made the file sends SIGCONT. The
broker gives up frozen processes after seconds here, not tens of them.
"""

import os
import signal
from pathlib import Path
from typing import Any

if "STAND_STILL" in os.environ:
    import asyncio

    from heliometer.alarms.live_engine import LiveEngine
    from heliometer.cluster import connection as broker
    from heliometer.cluster import stall_detector as pulse
    from heliometer.pipeline.shard import Shard
    from heliometer.storage.clickhouse import http as clickhouse_http

    broker.HEARTBEAT_S = 3
    pulse.FROZEN_S = clickhouse_http.STALE_S = 2.0
    wanted = Path(os.environ["STAND_STILL"])
    store, insert = Shard.store, clickhouse_http.Client.insert
    add = LiveEngine.add

    def stand_still(where: str) -> None:
        try:
            (wanted / where).unlink()
        except OSError:
            return
        os.kill(os.getpid(), signal.SIGSTOP)

    async def _store(self: Any, *args: Any, **kwargs: Any) -> Any:
        stand_still("before the batch is made")
        return await store(self, *args, **kwargs)

    async def _insert(self: Any, table: str, *args: Any, **kwargs: Any) -> None:
        if table == "measurements":
            stand_still("before the insert is sent")
        await insert(self, table, *args, **kwargs)

    async def _add(self: Any, *args: Any) -> None:
        while (wanted / "while a part is taken over").exists():  # it waits, and serves
            (wanted / "waiting").touch()
            await asyncio.sleep(0.05)
        await add(self, *args)

    Shard.store = _store  # type: ignore[method-assign]
    clickhouse_http.Client.insert = _insert  # type: ignore[method-assign]
    LiveEngine.add = _add  # type: ignore[method-assign, assignment]
