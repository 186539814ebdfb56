"""The page on reliability has a row for every test of the catalogue, and each row has tests."""

import re
from pathlib import Path

import pytest

from soak.catalogue import CATALOGUE
from soak.table import FAILS, HOLDS, Ran, Result, better, read, refreshed, render, summary

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def test_the_page_has_a_row_for_each() -> None:
    page = PAGE.read_text("utf-8")
    assert render(read(page)) in page, "make soak writes the table"


def test_each_row_has_a_test_that_is_marked() -> None:
    marked: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for numbers in re.findall(r"mark\.reliability\(([\d, ]+)\)", path.read_text("utf-8")):
            marked.update(map(int, numbers.split(",")))
    assert marked == {row.number for row in CATALOGUE}


def test_a_row_is_refreshed_and_the_rest_of_the_page_stays() -> None:
    page = "# Title\n\n" + render({}) + "\n\nThe end.\n"
    new = Result("kills 3; lost 0", "quick", HOLDS, "2026-12-01", "abc1234")
    after = refreshed(page, {2: new})
    assert read(after)[2] == new
    assert after.startswith("# Title\n\n| #")
    assert after.endswith(" |\n\nThe end.\n")
    assert refreshed(render({}) + "\n", {2: new}).count("\n") == page.count("\n") - 4


def test_what_several_tests_measured_is_one_row() -> None:
    ran = [
        Ran("a::b", "passed", 1.0, {"kills": "3", "ready": "1.0 s"}),
        Ran("a::c", "passed", 1.0, {"kills": "4"}),
        Ran("a::d", "skipped", 0.0, {}),
    ]
    found = summary(ran, full=True, date="2026-12-01", commit="abc1234")
    assert found.measured == "kills 7; ready 1.0 s; 2 tests pass; 1 skipped"
    assert (found.scale, found.verdict) == ("full", HOLDS)
    failed = summary([*ran, Ran("a::e", "failed", 1.0, {})], full=False, date="", commit="")
    assert failed.verdict == FAILS
    assert "first e" in failed.measured


@pytest.mark.parametrize(
    ("old", "new", "is_replaced"),
    [
        (Result(), Result("", "quick", HOLDS), True),
        (Result("", "full", HOLDS), Result("", "quick", HOLDS), False),
        (Result("", "full", HOLDS), Result("", "quick", FAILS), True),
        (Result("", "quick", FAILS), Result("", "full", HOLDS), True),
        (Result("", "full", HOLDS), Result(), False),
    ],
)
def test_a_quick_run_replaces_no_full_one_unless_it_fails(
    old: Result, new: Result, is_replaced: bool
) -> None:
    assert better(old, new) == (new if is_replaced else old)
