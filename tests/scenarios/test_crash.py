"""kill -9 under load loses nothing that was acknowledged, and doubles nothing."""

import time
from pathlib import Path

from benchmarks.crash import crash


def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    seed = int(time.time())
    report = crash(tmp_path / "data", rounds=3, seed=seed)
    assert report.sound, f"seed {seed}: {report}"
    assert report.acknowledged > 0
