"""Explanations by a process that does not evaluate the alarm."""

import asyncio
import threading
import uuid
from collections.abc import Mapping, Sequence

import pytest

from alarms.evaluator_world import PROJECT, World
from heliometer.alarms.clock import Clock
from heliometer.alarms.engine.model import Rules
from heliometer.alarms.explainer import StoredExplainer
from heliometer.alarms.expression import normal_form, parse
from heliometer.alarms.model import Alarm
from heliometer.alarms.stored_windows import StoredWindows
from heliometer.core.errors import Code, HeliometerError
from heliometer.metrics.model import Series


class NotingWindows(StoredWindows):
    """Stored windows that remember which thread matched series."""

    matched_in: int = 0

    def select(
        self, project_id: str, namespace: str, dimensions: Mapping[str, str]
    ) -> Sequence[Series]:
        self.matched_in = threading.get_ident()
        return super().select(project_id, namespace, dimensions)


def explainer(world: World) -> tuple[StoredExplainer, NotingWindows]:
    windows = NotingWindows(world.store, world.series_index)
    return StoredExplainer(windows, Rules(), Clock(lambda: world.now_s)), windows


def alarm(expression: str) -> Alarm:
    form = normal_form(parse(expression))
    return Alarm(str(uuid.uuid4()), PROJECT, "n", expression, form, 0, 0)


async def test_it_says_what_the_evaluator_says(world: World) -> None:
    await world.start()
    made = await world.alarm("avg(ns, 120) > 5 and max(ns{host=b}) > 1")
    for host in ("a", "b"):
        await world.measure(10, host=host)
    await world.wait(60)
    assert world.evaluator is not None
    stored = await world.alarms.get(PROJECT, made.id)
    assert await explainer(world)[0].explain(stored) == await world.evaluator.explain(stored)


async def test_series_are_matched_in_a_thread(world: World) -> None:
    await world.start()
    await world.measure(10)
    explaining, windows = explainer(world)
    explained = await explaining.explain(alarm("avg(ns) > 5"))
    assert explained.subexpressions[0].finding.matching == 1
    assert windows.matched_in not in (0, threading.get_ident())


async def test_one_is_explained_at_a_time_and_each_for_itself(world: World) -> None:
    await world.start()
    await world.measure(10)
    explaining, _ = explainer(world)
    every = [alarm(f"avg(ns) > {i}") for i in range(3)]
    found = await asyncio.gather(*map(explaining.explain, every))
    assert [e.subexpressions[0].finding.threshold for e in found] == [0, 1, 2]


async def test_what_cannot_be_read_cannot_be_explained(world: World) -> None:
    await world.start()
    await world.measure(10)
    world.store.away = True
    with pytest.raises(HeliometerError) as error:
        await explainer(world)[0].explain(alarm("avg(ns) > 5"))
    assert error.value.code is Code.UNAVAILABLE
