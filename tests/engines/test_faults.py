"""What the disk does to us: failed syncs, a full disk, death at every sync.

These need ``strace`` and the right to mount; ``make test-engines`` installs the one and runs as a
user who has the other.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from effort import effort
from soak.recording import Measured

pytestmark = pytest.mark.engines

WRITER = Path(__file__).with_name("write_until_dead.py")
POINTS = 200


def write(folder: Path, appends: int, *wrapper: str) -> list[int]:
    """Append one measurement at a time in a process of its own; return those acknowledged."""
    done = subprocess.run(
        [*wrapper, sys.executable, str(WRITER), str(folder), str(appends)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return [int(line) for line in done.stdout.split()]


def stored(folder: Path) -> list[int]:
    """What a new process finds."""
    done = subprocess.run(
        [sys.executable, str(WRITER), str(folder), "0", "--read"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    values: list[int] = json.loads(done.stdout)
    return values


def strace(inject: str) -> list[str]:
    """Run under strace with a fault injected into syncs."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = "fsync,fdatasync"
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}",
            "-e", f"inject={calls}:{inject}"]  # fmt: skip


# Counted in each thread, of which two sync, about 120 times each.
@pytest.mark.parametrize("nth", effort([*range(1, 13), 20, 30, 50, 80], range(1, 100)))
@pytest.mark.reliability(2)
def test_death_at_any_sync_loses_nothing_acknowledged_and_doubles_nothing(
    tmp_path: Path, nth: int
) -> None:
    acknowledged = write(tmp_path / "d", POINTS, *strace(f"signal=KILL:when={nth}"))
    found = stored(tmp_path / "d")
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
    assert len(acknowledged) < POINTS, "the process outlived the fault"


@pytest.mark.reliability(3)
def test_a_failed_sync_is_never_acknowledged_and_writing_resumes(tmp_path: Path) -> None:
    acknowledged = write(tmp_path / "d", POINTS, *strace("error=EIO:when=20+30"))
    found = stored(tmp_path / "d")
    assert 0 < POINTS - len(acknowledged) <= 30  # each refusal takes one failed sync at least
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.reliability(4)
def test_a_full_disk_refuses_writes_serves_reads_and_recovers(
    tmp_path: Path, measured: Measured
) -> None:
    script = Path(__file__).with_name("full_disk.py")
    mount = (
        f"mount -t tmpfs -o size=96m tmpfs {tmp_path} && exec {sys.executable} {script} {tmp_path}"
    )
    for _ in range(effort(1, 50)):
        try:
            done = subprocess.run(
                ["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True, timeout=120
            )
        except FileNotFoundError:
            pytest.skip("unshare is not installed")
        if "unshare failed" in done.stderr or "permission denied" in done.stderr.lower():
            pytest.skip("mounting is not allowed here")
        assert done.returncode == 0, done.stdout + done.stderr
    measured(cycles=effort(1, 50), lost=0)
