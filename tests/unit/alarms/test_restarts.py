"""Restarts while minutes are evaluated: the history is as if there had been none."""

import asyncio
import random

import pytest

from alarms.evaluator_world import ALARM, OK, PROJECT, U, World
from effort import effort
from heliometer.alarms.model import Alarm, State
from heliometer.metrics.statistics import MINUTE_MS
from soak.recording import Measured

RESTARTS = effort(6, 200)
TIMES = 3
THRESHOLD = 5


def expected(values: list[int], first_minute: int) -> list[tuple[int, State]]:
    """Minute by minute, from nothing but the one value of each: true if the newest three are high,
    false if any is low."""
    state, found = U, []
    for i in range(len(values)):
        windows = values[max(0, i + 1 - TIMES) : i + 1]
        if any(value <= THRESHOLD for value in windows):
            new = OK
        elif len(windows) == TIMES:
            new = ALARM
        else:
            new = state
        if new is not state:
            found.append((first_minute + i + 1, new))
        state = new
    return found


@pytest.mark.reliability(10)
async def test_restarts_during_evaluations_change_no_history(
    world: World, measured: Measured
) -> None:
    rng = random.Random(RESTARTS)
    values = [rng.choice((1, 10, 10, 10)) for _ in range(RESTARTS)]
    first_minute = int(world.now_s) // 60
    await world.start(at_once=False)
    alarm = await world.alarm(f"avg(ns) > {THRESHOLD} times {TIMES}")
    for value in values:
        await world.measure(value)
        world.alarms.answering.clear()  # what is decided from now on is not committed
        world.now_s += 60
        # It is being decided, or is decided and not committed.
        await asyncio.sleep(rng.uniform(0, 0.01))
        if rng.random() < 0.5:
            await world.hand_over()
        else:
            await world.stop()
            world.alarms.answering.set()
            await world.start(at_once=False)
    assert await history(world, alarm) == expected(values, first_minute)
    states = [state for _, state in await history(world, alarm)]
    assert U not in states
    measured(restarts=RESTARTS, transitions=len(states), wrong=0)


async def history(world: World, alarm: Alarm) -> list[tuple[int, State]]:
    """Minute and new state of each transition, oldest first."""
    found = await world.alarms.history(PROJECT, alarm.id, None, 1000)
    return [(e.transition.minute_ms // MINUTE_MS, e.transition.new) for e in reversed(found)]
