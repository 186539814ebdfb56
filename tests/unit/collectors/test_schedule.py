"""When rounds are due, for projects of different monitoring levels."""

from collections.abc import Mapping

from heliometer.collectors.schedule import Schedule


class Levels:
    def __init__(self, **intervals: int) -> None:
        self.intervals: Mapping[str, int] = intervals

    async def __call__(self) -> Mapping[str, int]:
        return self.intervals


async def rounds(
    schedule: Schedule, projects: list[str], start: float, end: float
) -> dict[str, list[float]]:
    """When each project is reported, as the loop goes about it."""
    reported: dict[str, list[float]] = {project: [] for project in projects}
    now = last = start
    while now < end:
        await schedule.refresh()
        due = {project for project in projects if schedule.due(project, now)}
        for project in due:
            reported[project].append(now)
        schedule.reported(due, now)
        last = now
        now += max(1.0, schedule.remaining(last, now))
    return reported


async def test_each_project_has_the_interval_of_its_level() -> None:
    schedule = Schedule(Levels(premium=60))
    found = await rounds(schedule, ["basic", "premium"], 1200, 2000)
    assert found["basic"] == [1200, 1500, 1800]
    assert found["premium"] == [1200 + 60 * n for n in range(14)]


async def test_a_new_level_holds_from_the_next_round() -> None:
    levels = Levels()
    schedule = Schedule(levels)
    assert (await rounds(schedule, ["p"], 1200, 1700))["p"] == [1200, 1500]
    levels.intervals = {"p": 60}
    assert (await rounds(schedule, ["p"], 1700, 1900))["p"] == [1700, 1740, 1800, 1860]
    levels.intervals = {"p": 300}
    assert (await rounds(schedule, ["p"], 1920, 2500))["p"] == [2100, 2400]


async def test_a_fixed_interval_is_asked_of_nobody() -> None:
    schedule = Schedule(Levels(p=60), fixed_s=20)
    assert (await rounds(schedule, ["p"], 1200, 1260))["p"] == [1200, 1220, 1240]


async def test_machines_begin_at_moments_of_their_own() -> None:
    schedule = Schedule(Levels(premium=60), offset_s=130)
    found = await rounds(schedule, ["basic", "premium"], 1210, 2000)
    assert found["basic"] == [1210, 1330, 1630, 1930]
    assert found["premium"][1:4] == [1270, 1330, 1390]


async def test_a_clock_that_goes_back_does_not_stop_reports() -> None:
    schedule = Schedule(Levels(), fixed_s=60)
    schedule.reported({"p"}, 10_000)
    assert schedule.due("p", 5_000)
