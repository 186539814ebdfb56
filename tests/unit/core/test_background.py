"""Tasks in the background: started again, counted, and shown while they do not stay up."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from eventually import eventually_async
from heliometer.core import background
from heliometer.core.background import STEADY_S, Ended, Life, Repeated, Supervisor, together
from heliometer.core.errors import HeliometerError


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(background, "LAST_RETRY_S", 0.002)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


class Worker:
    """Fails as often as it is told to, then lasts."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.begun = 0
        self.ended = 0

    async def run(self) -> None:
        self.begun += 1
        try:
            if self.failures:
                failure = self.failures.pop(0)
                if failure is None:
                    return
                raise failure
            await asyncio.Event().wait()
        finally:
            self.ended += 1


def named(name: str) -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


@pytest.mark.parametrize(
    "failure", [ValueError("no"), None, TimeoutError(), ExceptionGroup("n", [OSError()])]
)
async def test_a_task_that_ends_is_started_again_and_logged(
    stack: AsyncExitStack, failure: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    worker, tasks = Worker(failure), Supervisor()
    tasks.run(stack, worker.run, "works")
    await eventually_async(lambda: worker.begun == 2)
    assert tasks.restarts() == {"works": 1}
    assert tasks.up() == {"works": 1}
    await tasks.ping()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "task works ended" in record.message
    assert record.exc_info is not None
    assert record.exc_info[2] is not None


async def test_so_is_one_that_somebody_cancels(stack: AsyncExitStack) -> None:
    worker, tasks = Worker(), Supervisor()
    tasks.run(stack, worker.run, "works")
    for begun in range(1, 4):
        await eventually_async(lambda begun=begun: worker.begun == begun)  # type: ignore[misc]
        (task,) = named("works")
        task.cancel()
    await eventually_async(lambda: worker.begun == 4)


async def test_the_same_error_again_has_no_second_traceback(
    stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(ValueError("no"), ValueError("no"), ValueError("other"))
    Supervisor().run(stack, worker.run, "works")
    await eventually_async(lambda: worker.begun == 4)
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, True]


async def test_one_that_does_not_stay_up_is_shown_until_it_does(stack: AsyncExitStack) -> None:
    now = 0.0
    worker, tasks = Worker(ValueError("no"), ValueError("no")), Supervisor(lambda: now)
    tasks.run(stack, worker.run, "works")
    await eventually_async(lambda: worker.begun == 3)
    assert tasks.up() == {"works": 0}
    with pytest.raises(HeliometerError, match="works"):
        await tasks.ping()
    now += STEADY_S + 1
    assert tasks.up() == {"works": 1}
    await tasks.ping()


async def test_one_that_is_stopped_stays_ended() -> None:
    worker, tasks = Worker(), Supervisor()
    async with AsyncExitStack() as stack:
        tasks.run(stack, worker.run, "works")
        await eventually_async(lambda: worker.begun == 1)
    assert worker.ended == 1
    assert tasks.up() == {"works": 0}
    failing = Worker(*[ValueError("no")] * 1000)
    async with AsyncExitStack() as stack:
        tasks.run(stack, failing.run, "fails")
        await eventually_async(lambda: failing.begun > 2)
    begun = failing.begun
    await asyncio.sleep(0.01)  # longer than the longest pause
    assert failing.begun == begun


async def test_of_several_with_one_name_each_counts(stack: AsyncExitStack) -> None:
    tasks = Supervisor()
    workers = [Worker(), Worker(ValueError("no"))]
    for worker in workers:
        tasks.run(stack, worker.run, "works")
    await eventually_async(lambda: workers[1].begun == 2)
    assert workers[0].begun == 1
    assert tasks.restarts() == {"works": 1}


def test_a_life_forgets_its_failures_once_it_was_steady() -> None:
    now = 0.0
    life = Life("x", lambda: now)
    for _ in range(5):
        life.began()
        now += STEADY_S + 1
        life.ended(ValueError())
    assert not life.is_down
    assert life.restarts == 5


async def test_repeated_work_begins_with_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[object] = []

    async def sleep(seconds: float) -> None:
        order.append(seconds)
        if len(order) > 5:
            raise asyncio.CancelledError

    async def work() -> None:
        order.append("work")
        if len(order) == 2:
            raise ValueError("no")

    monkeypatch.setattr("heliometer.core.background.asyncio.sleep", sleep)
    repeated = Repeated(work, 60)
    with pytest.raises(ValueError, match="no"):
        await repeated()
    with pytest.raises(asyncio.CancelledError):
        await repeated()
    assert order == [60, "work", "work", 60, "work", 60]


@pytest.mark.parametrize("how", ["fails", "returns", "is cancelled"])
async def test_together_nothing_ends_unnoticed(how: str) -> None:
    first, other = Worker(), Worker()
    if how != "is cancelled":
        first.failures.append(ValueError("no") if how == "fails" else None)
    running = asyncio.create_task(together(one_thing=first.run, another=other.run))
    if how == "is cancelled":
        await eventually_async(lambda: bool(named("one thing")))
        named("one thing")[0].cancel()
    with pytest.raises(ValueError if how == "fails" else Ended):
        await running
    assert other.begun == other.ended


async def test_together_they_are_cancelled() -> None:
    workers = [Worker(), Worker()]
    running = asyncio.create_task(together(one=workers[0].run, two=workers[1].run))
    await eventually_async(lambda: workers[1].begun == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [w.ended for w in workers] == [1, 1]
