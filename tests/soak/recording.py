"""Pytest's part: selects the tests of one number, and notes what they measured.

``--reliability=2`` runs only tests that are marked ``reliability(2)``; it may be repeated;
``--reliability-log FILE`` gets a line of JSON for each test that ran.
"""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

import pytest

FIGURES = pytest.StashKey[dict[str, str]]()


class Measured(Protocol):
    """Notes figures for the table of docs/reliability.md: ``measured(kills=3, lost=0)``."""

    def __call__(self, **figures: object) -> None: ...


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """What a test measured. Underscores in names stand for blanks; whole numbers that several tests
    of a row note under the same name are added up."""
    stash: pytest.Stash = request.node.stash
    figures = stash.setdefault(FIGURES, {})

    def note(**more: object) -> None:
        figures.update({name.replace("_", " "): str(value) for name, value in more.items()})

    return note


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reliability", type=int, action="append", help="only tests of this row of the page"
    )
    parser.addoption("--reliability-log", type=Path, help="note what was measured in this file")


def numbers(item: pytest.Item) -> set[int]:
    """The rows of docs/reliability.md that a test proves."""
    return {number for mark in item.iter_markers("reliability") for number in mark.args}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--reliability") or ())
    if wanted:
        others = [item for item in items if not wanted & numbers(item)]
        items[:] = [item for item in items if wanted & numbers(item)]
        config.hook.pytest_deselected(items=others)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    log: Path | None = item.config.getoption("--reliability-log")
    if log is not None and (report.when == "call" or not report.passed):
        line = {
            "test": item.nodeid,
            "numbers": sorted(numbers(item)),
            "outcome": report.outcome,
            "seconds": report.duration,
            "figures": item.stash.get(FIGURES, {}),
        }
        with log.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
    return report
