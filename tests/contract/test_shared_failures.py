"""Wrong passwords and codes: all processes count together, and strangers lock nobody out."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from heliometer.config import Settings
from heliometer.core.errors import Code, HeliometerError
from heliometer.core.quotas import Quotas, Refused, Use
from heliometer.identity.sign_in_limiter import ADDRESS_FACTOR, USER_FACTOR, SignInLimiter
from heliometer.notifications.code_budgets import TRIES, CodeBudgets
from heliometer.storage.sql.database import Database
from heliometer.storage.sql.uses import SqlUseStore
from resource_databases import KINDS, new_database

NOW = 1_800_000_000.0
FAILURES = 2


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with new_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = await Database.open(settings)
    yield opened
    await opened.close()


def process(database: Database, *, shared: bool = True) -> SignInLimiter:
    """What a process that has just started knows."""
    quotas = Quotas(SqlUseStore(database), lambda: NOW, shared=shared)
    return SignInLimiter(FAILURES, lambda: 0.0, quotas)


async def tried(limiter: SignInLimiter, user: str, address: str, *, right: bool = False) -> bool:
    """Try a password; whether that was admitted."""
    try:
        async with limiter.admitted(user, address) as attempt:
            if right:
                attempt.succeeded()
    except HeliometerError as error:
        if error.code is not Code.RATE_LIMITED or not error.retry_after:
            raise
        return False
    return True


async def test_a_pair_has_one_budget_in_all_processes(database: Database) -> None:
    here, there = process(database), process(database)
    assert [await tried(p, "ann", "192.0.2.1") for p in (here, there, here, there)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not await tried(process(database), "ann", "192.0.2.1", right=True)
    assert await tried(there, "ann", "192.0.2.2")


async def test_success_in_one_process_resets_the_pair_in_all(database: Database) -> None:
    for _ in range(3):  # each time other processes
        assert await tried(process(database), "ann", "192.0.2.1")
        assert await tried(process(database), "ann", "192.0.2.1", right=True)


async def test_an_address_has_one_budget_in_all_processes(database: Database) -> None:
    processes = [process(database) for _ in range(3)]
    most = FAILURES * ADDRESS_FACTOR
    tries = [await tried(processes[i % 3], f"user{i}", f"2001:db8::{i:x}") for i in range(most + 3)]
    assert tries == [True] * most + [False] * 3


@pytest.mark.parametrize("shared", [True, False])
async def test_strangers_lock_nobody_out_not_even_after_a_restart(
    database: Database, shared: bool
) -> None:
    assert await tried(process(database, shared=shared), "ann", "192.0.2.1", right=True)
    restarted = process(database, shared=shared)
    most = FAILURES * USER_FACTOR
    tries = [await tried(restarted, "ann", f"198.51.100.{i}") for i in range(most + 1)]
    assert tries == [True] * most + [False]
    assert await tried(restarted, "ann", "192.0.2.1", right=True)
    assert not await tried(restarted, "ann", "192.0.2.2", right=True)


class Away:
    """A store that does not answer."""

    async def take(self, uses: Sequence[Use], now_ms: int) -> Refused | None:
        raise HeliometerError(Code.UNAVAILABLE, "away")

    async def check(self, uses: Sequence[Use], now_ms: int) -> Refused | None:
        raise HeliometerError(Code.UNAVAILABLE, "away")

    async def forget(self, use: Use) -> None:
        raise HeliometerError(Code.UNAVAILABLE, "away")

    async def purge(self, now_ms: int) -> None:
        raise HeliometerError(Code.UNAVAILABLE, "away")


async def test_without_the_store_each_process_has_its_own_budgets() -> None:
    limiter = SignInLimiter(FAILURES, lambda: 0.0, Quotas(Away(), lambda: NOW, shared=True))
    tries = [await tried(limiter, "ann", "192.0.2.1") for _ in range(FAILURES + 1)]
    assert tries == [True] * FAILURES + [False]
    assert await tried(limiter, "bob", "192.0.2.1", right=True)


async def test_wrong_codes_of_a_client_have_one_budget_in_all_processes(database: Database) -> None:
    quotas = Quotas(SqlUseStore(database), lambda: NOW, shared=True)
    processes = [CodeBudgets(quotas) for _ in range(2)]
    for i in range(TRIES):
        await processes[i % 2].check(f"project {i}", "192.0.2.1", 0.0)
        await processes[i % 2].charge(f"project {i}", "192.0.2.1", 0.0)
    for each in processes:
        with pytest.raises(HeliometerError, match="wrong validation codes") as refused:
            await each.check("project", "192.0.2.1", 0.0)
        assert refused.value.retry_after == 600
        await each.check("project", "192.0.2.2", 0.0)
    assert quotas.refused == {"wrong_code_client": 2}
