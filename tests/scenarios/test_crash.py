"""kill -9 under load loses nothing that was acknowledged, and doubles nothing."""

import time
from pathlib import Path

from benchmarks.crash import crash

from effort import effort


def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    seed = int(time.time())
    report = crash(tmp_path / "data", rounds=effort(3, 1000), seed=seed)
    assert report.sound, f"seed {seed}: {report}"
    assert report.acknowledged > 0
