"""A caller that is cancelled in a transaction, such as by a deadline, must not keep its lock."""

import asyncio
import random
from pathlib import Path

from effort import effort
from heliometer.alarms.model import Outcome
from heliometer.config import load
from heliometer.projects.model import ALL_PROJECTS
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.outbox import SqlOutbox


async def test_the_database_goes_on_whoever_is_cancelled(tmp_path: Path) -> None:
    database = await Database.open(load(None, {"HELIOMETER_SERVER_DATA_DIR": str(tmp_path)}))
    alarms, outbox = SqlAlarmStore(database), SqlOutbox(database)
    chance = random.Random(7)
    cancelled: list[asyncio.Task[object]] = []  # kept, with whatever they refer to
    for number in range(effort(40, 2000)):
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(work)
            for work in (
                alarms.resume(0, ALL_PROJECTS, from_ms=1),
                alarms.commit(Outcome([], b"x", 60_000 * number), ALL_PROJECTS, number),
                outbox.claim(1, 1, 5),
                database.ping(),
            )
        ]
        chance.shuffle(tasks)
        for task in tasks:
            await asyncio.sleep(chance.choice([0, 0, chance.uniform(0, 0.006)]))
            task.cancel()
        await asyncio.wait(tasks)
        cancelled += tasks
        await database.ping()
    for task in cancelled:
        if not task.cancelled():
            task.exception()  # refused, since another had taken over
    await database.close()
