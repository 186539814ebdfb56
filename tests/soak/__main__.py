"""``make soak TEST=2 FULL=1``: run reliability tests and refresh their rows of docs/reliability.md.

Without ``--test`` all of them; without ``--full`` in the quick form that CI runs too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from soak.catalogue import CATALOGUE
from soak.table import FAILS, Ran, Result, better, read, refreshed, render, summary

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
NOTHING_COLLECTED = 5


def marked_files() -> list[str]:
    """Test modules that have the marker: collecting them all takes longer than most tests."""
    marker = "mark.reliability("
    found = [p for p in (ROOT / "tests").rglob("test_*.py") if marker in p.read_text("utf-8")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def run(numbers: list[int], *, full: bool, which: str) -> list[tuple[set[int], Ran]]:
    """Run the tests of these rows, each once; returns the rows that each proves besides."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        environment = dict(os.environ)
        if full:
            environment["HELIOMETER_TEST_PROFILE"] = "soak"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", which,
             *(f"--reliability={number}" for number in numbers),
             f"--reliability-log={log}", "-p", "no:cacheprovider", *marked_files()],
            cwd=ROOT, env=environment,
        )  # fmt: skip
        if done.returncode not in (0, 1, NOTHING_COLLECTED):
            raise SystemExit(f"pytest ended with {done.returncode}")
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    return [
        (set(e["numbers"]), Ran(e["test"], e["outcome"], e["seconds"], e["figures"])) for e in lines
    ]


def main() -> int:
    """Status 1 when one fails."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--test", type=int, action="append", choices=[r.number for r in CATALOGUE])
    parser.add_argument("--full", action="store_true", help="at its target: minutes to hours")
    parser.add_argument(
        "--no-engines", action="store_true", help="without tests that need other programs"
    )
    arguments = parser.parse_args()
    which = "not browser and not engines" if arguments.no_engines else "not browser"
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    commit, date = git.stdout.strip(), time.strftime("%Y-%m-%d")
    numbers = arguments.test or [row.number for row in CATALOGUE]
    # What takes hours is noted row by row.
    runs = [[number] for number in numbers] if arguments.full else [numbers]
    fails = False
    for some in runs:
        ran = run(some, full=arguments.full, which=which)
        page = PAGE.read_text("utf-8")  # anew each time: several may run side by side
        results = read(page)
        for number in some:
            mine = [each for rows, each in ran if number in rows]
            new = summary(mine, full=arguments.full, date=date, commit=commit)
            results[number] = better(results.get(number, Result()), new)
            fails |= new.verdict == FAILS
        PAGE.write_text(refreshed(page, results), "utf-8")
    print(render(read(PAGE.read_text("utf-8"))))
    return int(fails)


if __name__ == "__main__":
    sys.exit(main())
