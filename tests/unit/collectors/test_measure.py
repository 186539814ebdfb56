"""From snapshots to measurements."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliometer.collectors import Measurement
from heliometer.collectors.measure import measure, utilization
from heliometer.collectors.snapshot import Cpu, Disk, Interface, Snapshot

ROOT = Path(__file__).parents[3]
BEFORE = Snapshot(
    100.0,
    Cpu(10.0, 200.0),
    {"vda": Disk(1, 2, 3, 4, 5, 6, 7)},
    {"eth0": Interface(1, 2, 3, 4, 5, 6, 7, 8)},
)
AFTER = Snapshot(
    160.0,
    Cpu(40.0, 320.0),
    {"vda": Disk(11, 22, 33, 44, 1005, 2006, 15_007)},
    {"eth0": Interface(101, 202, 303, 404, 505, 606, 707, 808)},
)

Key = tuple[str, str, str]


def values(found: Sequence[Measurement]) -> dict[Key, float]:
    keyed = {
        (
            m.namespace,
            m.dimensions["metric_name"],
            m.dimensions.get("device", m.dimensions.get("disk", "")),
        ): m.value
        for m in found
    }
    assert len(keyed) == len(found), "a series twice in one round"
    return keyed


def test_every_metric_of_two_snapshots() -> None:
    found = measure(BEFORE, AFTER, "i-1", 7)

    assert {m.dimensions["instance_id"] for m in found} == {"i-1"}
    assert {m.timestamp_ms for m in found} == {7}
    compute, volume = "hpcs.compute", "hpcs.volume"
    assert values(found) == {
        (compute, "cpu_total_time", ""): 40e9,
        (compute, "cpu_total_utilization", ""): 25.0,
        (compute, "cpu_time", ""): 30e9,
        (compute, "disk_read_ops_count", "vda"): 11,
        (compute, "disk_write_ops_count", "vda"): 22,
        (compute, "disk_read_bytes_count", "vda"): 33,
        (compute, "disk_write_bytes_count", "vda"): 44,
        (compute, "disk_read_ops", "vda"): 10,
        (compute, "disk_write_ops", "vda"): 20,
        (compute, "disk_read_bytes", "vda"): 30,
        (compute, "disk_write_bytes", "vda"): 40,
        (volume, "volume_read_ops", "vda"): 10,
        (volume, "volume_write_ops", "vda"): 20,
        (volume, "volume_read_bytes", "vda"): 30,
        (volume, "volume_write_bytes", "vda"): 40,
        (volume, "volume_read_time", "vda"): 1.0,
        (volume, "volume_write_time", "vda"): 2.0,
        (volume, "volume_idle_time", "vda"): 45.0,
        (compute, "net_in_bytes_count", "eth0"): 101,
        (compute, "net_out_bytes_count", "eth0"): 202,
        (compute, "net_in_dropped_count", "eth0"): 303,
        (compute, "net_out_dropped_count", "eth0"): 404,
        (compute, "net_in_packets_count", "eth0"): 505,
        (compute, "net_out_packets_count", "eth0"): 606,
        (compute, "net_in_errors_count", "eth0"): 707,
        (compute, "net_out_errors_count", "eth0"): 808,
        (compute, "net_in_bytes", "eth0"): 100,
        (compute, "net_out_bytes", "eth0"): 200,
        (compute, "net_in_dropped", "eth0"): 300,
        (compute, "net_out_dropped", "eth0"): 400,
        (compute, "net_in_packets", "eth0"): 500,
        (compute, "net_out_packets", "eth0"): 600,
        (compute, "net_in_errors", "eth0"): 700,
        (compute, "net_out_errors", "eth0"): 800,
    }


def test_the_first_round_has_counters_only() -> None:
    names = {m.dimensions["metric_name"] for m in measure(None, AFTER, "i-1", 7)}
    assert all(name.endswith("_count") or name == "cpu_total_time" for name in names)
    assert len(names) == 13


def test_a_device_that_was_plugged_in_has_no_delta_yet() -> None:
    after = dataclasses.replace(AFTER, disks={**AFTER.disks, "vdb": Disk(9, 9, 9, 9, 9, 9, 9)})
    vdb = {k[1] for k in values(measure(BEFORE, after, "i", 0)) if k[2] == "vdb"}
    assert vdb == {
        f"disk_{n}_count" for n in ("read_ops", "write_ops", "read_bytes", "write_bytes")
    }


def test_a_reset_counter_takes_all_deltas_of_its_device_with_it() -> None:
    # Only the reads went back; the writes grew past what they were, and mean nothing either.
    after = dataclasses.replace(AFTER, disks={"vda": Disk(0, 22, 33, 44, 5, 6, 7)})
    found = values(measure(BEFORE, after, "i", 0))
    assert ("hpcs.compute", "disk_write_ops", "vda") not in found
    assert ("hpcs.volume", "volume_idle_time", "vda") not in found
    assert found["hpcs.compute", "disk_write_ops_count", "vda"] == 22
    assert ("hpcs.compute", "net_in_bytes", "eth0") in found


def test_no_idle_time_where_the_system_does_not_count_it() -> None:
    before = dataclasses.replace(BEFORE, disks={"disk0": Disk(1, 2, 3, 4, 5, 6, None)})
    after = dataclasses.replace(AFTER, disks={"disk0": Disk(1, 2, 3, 4, 5, 6, None)})
    found = values(measure(before, after, "i", 0))
    assert ("hpcs.volume", "volume_idle_time", "disk0") not in found
    assert found["hpcs.volume", "volume_read_time", "disk0"] == 0


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (Cpu(0, 0), Cpu(5, 10), 50.0),
        (Cpu(5, 10), Cpu(5, 20), 0.0),
        (Cpu(5, 10), Cpu(15.01, 20), 100.0),
        (Cpu(5, 10), Cpu(5, 10), None),
        (Cpu(5, 10), Cpu(4, 20), None),
        (Cpu(5, 10), Cpu(6, 9), None),
    ],
)
def test_utilization(before: Cpu, after: Cpu, percent: float | None) -> None:
    assert utilization(before, after) == percent


counters = st.integers(0, 2**64)
seconds = st.floats(0, 1e9)
snapshots = st.builds(
    Snapshot,
    seconds,
    st.none() | st.builds(Cpu, seconds, seconds),
    st.dictionaries(
        st.sampled_from(["vda", "vdb", "sda"]),
        st.builds(Disk, *[counters] * 6, busy_ms=st.none() | counters),
    ),
    st.dictionaries(st.sampled_from(["eth0", "eth1"]), st.builds(Interface, *[counters] * 8)),
)


@given(snapshots, snapshots)
def test_whatever_happened_in_between_no_value_is_negative(
    before: Snapshot, after: Snapshot
) -> None:
    found = values(measure(before, after, "i", 0))
    assert all(value >= 0 for value in found.values())
    for (namespace, name, device), value in found.items():
        if name == "cpu_total_utilization":
            assert value <= 100
        if (namespace, f"{name}_count", device) in found:
            assert value <= found[namespace, f"{name}_count", device]


@given(snapshots)
def test_an_interval_in_which_nothing_happened(snapshot: Snapshot) -> None:
    for (_, name, _), value in values(measure(snapshot, snapshot, "i", 0)).items():
        if not name.endswith("_count") and name != "cpu_total_time":
            assert value == 0


def test_the_documentation_lists_exactly_these_metrics() -> None:
    page = (ROOT / "docs" / "collectors.md").read_text(encoding="utf-8")
    tables = page[page.index("### hpcs.compute") : page.index("## The agent's own health")]
    documented = set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE))
    assert documented == {m.dimensions["metric_name"] for m in measure(BEFORE, AFTER, "i", 0)}
