"""Reports that wait: bounded, whole, and nobody else's."""

from pathlib import Path

import pytest

from heliometer.collectors.spool import Spool, SpoolInUse


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", 100)
    spool.open()
    return spool


def test_reports_come_back_in_order_and_survive_the_agent(spool: Spool) -> None:
    for stamp in (3000, 1000, 2000):
        assert spool.add(f"at {stamp}".encode(), stamp) == 0
    spool.close()
    again = Spool(spool.folder, 100)
    again.open()
    assert [entry.read() for entry in again.entries()] == [b"at 1000", b"at 2000", b"at 3000"]
    assert len({entry.key for entry in again.entries()}) == 3
    again.remove(again.entries()[0])
    assert again.size() == (2, 14)


def test_the_oldest_give_way(spool: Spool) -> None:
    for stamp in range(3):
        spool.add(bytes(40), stamp)
    assert [entry.timestamp_ms for entry in spool.entries()] == [1, 2]
    assert spool.add(bytes(90), 3) == 2
    assert [entry.timestamp_ms for entry in spool.entries()] == [3]


def test_what_is_half_written_is_never_seen(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heliometer.collectors.spool.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool.add(b"report", 1)
    assert list(spool.folder.glob("*.gz")) == list(spool.folder.glob("*.part")) == []
    (spool.folder / "0000000000001-abc.part").write_bytes(b"half")
    spool.close()
    spool.open()
    assert spool.entries() == []
    assert list(spool.folder.glob("*.part")) == []


def test_two_agents_do_not_share_one(spool: Spool) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path\n"
        "from heliometer.collectors.spool import Spool, SpoolInUse\n"
        "try: Spool(Path(sys.argv[1]), 100).open()\n"
        "except SpoolInUse as error: print(error)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(spool.folder)], capture_output=True, text=True, check=True
    )
    assert "--spool" in other.stdout
    assert SpoolInUse.__doc__
