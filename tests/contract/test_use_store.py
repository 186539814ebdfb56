"""What was used of quotas: one count for all processes, exact to the second, and bounded."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from heliometer.config import Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.quotas import Quota, Quotas
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.uses import SqlUseStore
from resource_databases import KINDS, new_database

HOURLY = Quota("hourly", 3, 3600, "three an hour")
OVERALL = Quota("overall", 5, 86_400, "five a day")


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with new_database(request.param, tmp_path) as made:
        yield made


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def processes(settings: Settings, clock: Clock) -> AsyncIterator[list[Quotas]]:
    """Three processes on one database."""
    databases = [await Database.open(settings) for _ in range(3)]
    yield [Quotas(SqlUseStore(database), clock) for database in databases]
    for database in databases:
        await database.close()


async def wait_s(quotas: Quotas, *whose: str) -> int:
    """Take a use for each; the seconds to wait, 0 if all were counted."""
    try:
        await quotas.take(*(HOURLY.of(each) for each in whose), OVERALL.of())
    except HeliometerError as error:
        limited = error.code is Code.RATE_LIMITED and f"{error.retry_after} sec" in error.details
        return error.retry_after or -1 if limited else -1
    return 0


async def test_processes_count_together(processes: list[Quotas], clock: Clock) -> None:
    first, second, third = processes
    assert [await wait_s(each, "ann") for each in (first, second, third)] == [0, 0, 0]
    clock.now += 100.5
    assert await wait_s(second, "ann") == 3500
    assert second.refused == {"hourly": 1}
    assert not first.refused
    with pytest.raises(HeliometerError, match="three an hour"):
        await third.check(HOURLY.of("ann"))
    await third.check(HOURLY.of("bob"))


async def test_what_is_refused_counts_for_nothing(processes: list[Quotas], clock: Clock) -> None:
    first, second, _ = processes
    assert [await wait_s(first, "ann") for _ in range(10)] == [0] * 3 + [3600] * 7
    assert [await wait_s(second, "bob") for _ in range(4)] == [0, 0, 86_400, 86_400]
    clock.now += 3600
    assert await wait_s(first, "bob") == 86_400 - 3600
    clock.now += 86_400
    assert await wait_s(first, "ann", "bob") == 0


async def test_of_many_at_once_no_more_are_counted(processes: list[Quotas]) -> None:
    waits = await asyncio.gather(
        *(wait_s(processes[i % 3], *(["ann", "bob"][:: 1 if i % 2 else -1])) for i in range(18))
    )
    assert sorted(waits) == [0] * 3 + [3600] * 15


async def test_a_clock_set_back_prolongs_no_wait_beyond_the_span(
    processes: list[Quotas], clock: Clock
) -> None:
    assert [await wait_s(processes[0], "ann") for _ in range(3)] == [0] * 3
    clock.now -= 86_400
    assert await wait_s(processes[0], "ann") == 3600


async def test_one_can_begin_anew(processes: list[Quotas]) -> None:
    first, second, _ = processes
    for whose in ("ann", "bob"):
        for _ in range(3):
            await first.take(HOURLY.of(whose))
    await second.forget(HOURLY.of("ann"))
    await first.take(HOURLY.of("ann"))
    with pytest.raises(HeliometerError):
        await first.check(HOURLY.of("bob"))


async def test_a_restart_forgets_nothing(settings: Settings, clock: Clock) -> None:
    for times in range(4):
        database = await Database.open(settings)
        assert (await wait_s(Quotas(SqlUseStore(database), clock), "ann") > 0) is (times == 3)
        await database.close()


async def test_what_counts_no_longer_goes_and_there_is_a_bound(
    settings: Settings, clock: Clock
) -> None:
    database = await Database.open(settings)
    quotas = Quotas(SqlUseStore(database, largest=5), clock)
    old, newest = [HOURLY.of(f"address {i}") for i in range(20)], HOURLY.of("newest")
    for use in [*old, newest, newest, newest]:
        await quotas.take(use)
    await quotas.purge()
    with pytest.raises(HeliometerError):
        await quotas.check(newest)
    async with database.read() as connection:
        rows = (await connection.exec_driver_sql("SELECT count(*) FROM uses")).scalar_one()
    assert rows == 5
    clock.now += 3600
    await quotas.purge()
    async with database.read() as connection:
        rows = (await connection.exec_driver_sql("SELECT count(*) FROM uses")).scalar_one()
    assert rows == 0
    await database.close()
