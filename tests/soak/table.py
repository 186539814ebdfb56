"""The table in docs/reliability.md: read, refreshed by row, written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from soak.catalogue import CATALOGUE

HEAD = "| # | test | target | measured | scale | verdict | date | commit |"
RULE = "|---|---|---|---|---|---|---|---|"
HOLDS, FAILS, UNKNOWN = "holds", "**fails**", "not measured"


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a test."""

    measured: str = ""
    scale: str = ""
    """``full`` when it was tried at its target, else ``quick``."""
    verdict: str = UNKNOWN
    date: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """One of the tests that prove a row."""

    test: str
    outcome: str
    seconds: float
    figures: Mapping[str, str]


def read(text: str) -> dict[int, Result]:
    """The results of a page that has the table, by number."""
    found: dict[int, Result] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and cells[0].isdigit():
            found[int(cells[0])] = Result(*cells[3:])
    return found


def render(results: Mapping[int, Result]) -> str:
    """The whole table."""
    lines = [HEAD, RULE]
    for row in CATALOGUE:
        each = results.get(row.number, Result())
        cells = (str(row.number), row.title, row.target, each.measured, each.scale, each.verdict,
                 each.date, each.commit)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def refreshed(page: str, results: Mapping[int, Result]) -> str:
    """The page with its table replaced."""
    before, _, rest = page.partition(HEAD)
    _, gap, after = rest.partition("\n\n")
    return before + render(results) + (gap + after if gap else "\n")


def summary(ran: Iterable[Ran], *, full: bool, date: str, commit: str) -> Result:
    """What came of a row's tests."""
    tests = list(ran)
    failed = [each.test for each in tests if each.outcome == "failed"]
    passed = [each for each in tests if each.outcome == "passed"]
    if not passed and not failed:
        return Result()
    figures: dict[str, str] = {}
    for each in passed:
        for name, value in each.figures.items():
            known = figures.get(name)
            both = known is not None and known.isdigit() and value.isdigit()
            figures[name] = str(int(known or 0) + int(value)) if both else value
    parts = [f"{name} {value}" for name, value in figures.items()]
    parts.append(f"{len(passed)} tests pass" if len(passed) != 1 else "1 test passes")
    if len(passed) + len(failed) < len(tests):
        parts.append(f"{len(tests) - len(passed) - len(failed)} skipped")
    if failed:
        parts = [f"{len(failed)} of {len(tests)} fail, first {failed[0].split('::')[-1]}"]
    measured = "; ".join(parts).replace("|", "/")
    verdict = FAILS if failed else HOLDS
    return Result(measured, "full" if full else "quick", verdict, date, commit)


def better(old: Result, new: Result) -> Result:
    """What the table shows from now on: a quick run replaces no full one, unless it fails."""
    if new.verdict == UNKNOWN:
        return old
    if old.scale == "full" and new.scale == "quick" and new.verdict == HOLDS:
        return old
    return new
