"""What the host collector reads, and the id it reports under."""

import uuid
from pathlib import Path

import pytest

from heliometer.collectors import load_collector
from heliometer.collectors.host.collector import HostCollector
from heliometer.collectors.host.instance import instance_id
from heliometer.collectors.host.reader import Reader, whole_disks, worth_reporting
from heliometer.collectors.snapshot import Cpu, Interface, Snapshot
from heliometer.metrics.validation import check_dimension, check_namespace, check_value

QUIET = Interface(0, 0, 0, 0, 0, 0, 0, 0)
BUSY = Interface(1, 1, 0, 0, 1, 1, 0, 0)


def test_what_this_machine_says_may_be_stored() -> None:
    collector = load_collector("host")
    first = collector.collect(1_000, lambda _: True)
    second = collector.collect(2_000, lambda _: True)
    assert {m.dimensions["metric_name"] for m in first} >= {"cpu_total_time"}
    assert {m.dimensions["metric_name"] for m in second} >= {"cpu_total_time", "cpu_time"}
    for measurement in first + second:
        check_namespace(measurement.namespace)
        for key, value in measurement.dimensions.items():
            check_dimension(key, value)
        check_value(measurement.value)
    assert {m.timestamp_ms for m in second} == {2_000}


def test_the_first_round_has_the_utilization_too() -> None:
    snapshots = iter([Snapshot(0, Cpu(1, 10)), Snapshot(0.5, Cpu(2, 12)), Snapshot(9, Cpu(3, 22))])
    naps: list[float] = []
    collector = HostCollector(lambda _: next(snapshots), "i", lambda: 0.0, naps.append)
    first = {m.dimensions["metric_name"]: m.value for m in collector.collect(0)}
    assert first == {"cpu_total_time": 2e9, "cpu_total_utilization": 50.0}
    second = {m.dimensions["metric_name"]: m.value for m in collector.collect(0)}
    assert second == {"cpu_total_time": 3e9, "cpu_total_utilization": 10.0, "cpu_time": 1e9}
    assert naps == [0.5]


def test_a_part_that_cannot_be_read_is_left_out_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def denied() -> None:
        raise PermissionError("no /proc/diskstats")

    monkeypatch.setattr("heliometer.collectors.host.reader.read_disks", denied)
    reader = Reader()
    assert reader.read(0).disks == {}
    assert reader.read(1).cpu is not None
    assert [r.getMessage().count("disk counters") for r in caplog.records] == [1]

    monkeypatch.setattr("heliometer.collectors.host.reader.read_cpu", denied)
    monkeypatch.setattr("heliometer.collectors.host.reader.read_interfaces", denied)
    with pytest.raises(OSError, match="neither"):
        reader.read(2)


@pytest.mark.parametrize(
    ("names", "physical", "whole", "reported"),
    [
        # A virtual machine: the disk, not its partitions, nor loop and compressed RAM devices.
        (["vda", "vda1", "loop0", "zram0"], ["vda"], ["vda", "loop0", "zram0"], ["vda"]),
        # Two disks, an LVM volume and a RAID on them, a DVD drive.
        (
            ["sda", "sda1", "nvme0n1", "nvme0n1p1", "dm-0", "md0", "sr0"],
            ["sda", "nvme0n1", "sr0"],
            ["sda", "nvme0n1", "dm-0", "md0", "sr0"],
            ["nvme0n1", "sda"],
        ),
        # No physical disk, as on some clouds: the whole devices.
        (["dm-0", "xvda1", "loop3"], [], ["dm-0", "loop3"], ["dm-0"]),
        # A container without /sys: judged by their names.
        (["nvme0n1", "nvme0n1p1", "nvme1n1", "ram0"], [], [], ["nvme0n1", "nvme1n1"]),
        (["vda1", "vda2"], [], [], ["vda1", "vda2"]),
        # macOS.
        (["disk0", "disk2"], [], [], ["disk0", "disk2"]),
        (["loop0"], [], ["loop0"], []),
        ([], [], [], []),
    ],
)
def test_which_disks_are_reported(
    names: list[str], physical: list[str], whole: list[str], reported: list[str]
) -> None:
    assert whole_disks(names, physical, whole) == reported


def test_which_interfaces_are_reported() -> None:
    interfaces = {
        "wlan0": BUSY,
        "lo": BUSY,
        "lo0": BUSY,
        "veth12ab34c": BUSY,
        "ifb0": QUIET,
        "eth0": QUIET,
        "tun0": BUSY,
    }
    assert list(worth_reporting(interfaces, {"lo", "eth0", "wlan0"})) == ["eth0", "tun0", "wlan0"]


def test_the_instance_id_stays_and_does_not_show_the_machine_id(tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    found = instance_id([file])
    assert uuid.UUID(found).version == 4
    assert found == "006e21b2-4695-44ce-8d04-623334c9508c"
    assert "01234567" not in found


@pytest.mark.parametrize("content", [None, "", "uninitialized\n"])
def test_without_a_machine_id_the_host_name_counts(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "machine-id"
    if content is not None:
        file.write_text(content)
    found = instance_id([file], "one.example.org")
    assert found == instance_id([file], "one.example.org")
    assert found != instance_id([file], "two.example.org")
