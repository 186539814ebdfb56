"""The expressions that docs/alarms.md shows: on real series, every alarm lies in a window that
people labelled as anomalous. Needs the files of the Numenta Anomaly Benchmark."""

import csv
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from heliometer.alarms.dry_run import dry_run
from heliometer.alarms.engine.model import Rules
from heliometer.alarms.expression import Subexpression, parse
from heliometer.alarms.model import State
from heliometer.metrics.model import Batch, Series

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "nab"
ROW = re.compile(r"^\| `(\w+)` \| `([^`]+)` \| .* \| (\d) of (\d) \|$", re.M)
SHOWN = ROW.findall((ROOT / "docs" / "alarms.md").read_text())


def moment_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_the_page_shows_at_least_four() -> None:
    assert len(SHOWN) >= 4


@pytest.mark.skipif(not DATA.is_dir(), reason="the real series are not here")
@pytest.mark.parametrize(("name", "text", "hit", "labelled"), SHOWN)
def test_every_alarm_lies_in_a_labelled_window(
    name: str, text: str, hit: str, labelled: str
) -> None:
    with (DATA / f"{name}.csv").open(newline="") as file:
        rows = [(moment_ms(r["timestamp"]), float(r["value"])) for r in csv.DictReader(file)]
    batch = Batch(
        np.ones(len(rows), np.int64),
        np.array([t for t, _ in rows], np.int64),
        np.array([v for _, v in rows]),
    )
    expression = parse(text)
    assert isinstance(expression, Subexpression)
    series = Series(1, "p", expression.metric.namespace, ())
    found = dry_run(expression, batch, [series], rows[0][0], rows[-1][0] + 60_000, Rules())
    windows = [
        (moment_ms(a), moment_ms(b))
        for a, b in json.loads((DATA / "anomaly_windows.json").read_text())[name]
    ]
    spans = found.spans(State.ALARM)
    assert spans
    inside = {w for s in spans for w in windows if w[0] <= s[0] and s[1] <= w[1]}
    assert all(any(w[0] <= s[0] and s[1] <= w[1] for w in windows) for s in spans)
    assert (len(inside), len(windows)) == (int(hit), int(labelled))
