"""kill -9 under load loses nothing that was acknowledged, and doubles nothing."""

import time
from pathlib import Path

import pytest
from benchmarks.crash import crash

from effort import effort
from soak.recording import Measured


@pytest.mark.reliability(2)
def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, measured: Measured) -> None:
    seed = int(time.time())
    report = crash(tmp_path / "data", rounds=effort(3, 1000), seed=seed)
    measured(
        kills=report.rounds,
        acknowledged=report.acknowledged,
        lost=report.lost,
        doubled=report.doubled,
        ready_at_worst=f"{max(report.seconds_to_ready):.1f} s",
    )
    assert report.sound, f"seed {seed}: {report}"
    assert report.acknowledged > 0
