"""From libvirt's statistics of a domain to a snapshot. Pure: no hypervisor, no clock."""

from collections.abc import Mapping
from typing import Any

from heliometer.collectors.libvirt.definition import Definition
from heliometer.collectors.snapshot import Cpu, Disk, Interface, Snapshot

LARGEST = 1 << 63
"""A counter from here on is a difference that went below zero, or means that there is none."""


def device_names(statistics: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of disks and interfaces: if they change, so did the definition."""
    return (
        tuple(str(statistics.get(f"block.{i}.path", ""))
              + "=" + str(statistics.get(f"block.{i}.name", ""))
              for i in range(int(statistics.get("block.count", 0)))),
        tuple(str(statistics.get(f"net.{i}.name", ""))
              for i in range(int(statistics.get("net.count", 0)))),
    )  # fmt: skip


def snapshot_of(
    statistics: Mapping[str, Any],
    definition: Definition,
    monotonic_s: float,
    capacity_s: float,
) -> Snapshot:
    """The counters of a domain. ``capacity_s`` is how long its processors could have run since any
    moment: seconds times processors, summed up."""
    used = _counter(statistics, "cpu.time")
    disks: dict[str, Disk] = {}
    interfaces: dict[str, Interface] = {}
    for number in range(int(statistics.get("block.count", 0))):
        name = str(statistics.get(f"block.{number}.name", ""))
        # Backing files of a disk are listed too, and are not reported.
        if name in definition.disks:
            disks.setdefault(name, _disk(statistics, f"block.{number}"))
    for number in range(int(statistics.get("net.count", 0))):
        host = str(statistics.get(f"net.{number}.name", ""))
        inside = definition.interfaces.get(host)
        if inside:
            interfaces[inside] = _interface(statistics, f"net.{number}")
    return Snapshot(
        monotonic_s,
        None if used is None else Cpu(used / 1e9, capacity_s),
        disks,
        dict(sorted(interfaces.items())),
        {**definition.disks, **definition.addresses},
    )


def _disk(statistics: Mapping[str, Any], prefix: str) -> Disk:
    read, write = (_counter(statistics, f"{prefix}.{way}.times") for way in ("rd", "wr"))
    flush = _counter(statistics, f"{prefix}.fl.times")
    busy = None if read is None or write is None else (read + write + (flush or 0)) / 1e6
    return Disk(
        read_ops=_counter(statistics, f"{prefix}.rd.reqs"),
        write_ops=_counter(statistics, f"{prefix}.wr.reqs"),
        read_bytes=_counter(statistics, f"{prefix}.rd.bytes"),
        write_bytes=_counter(statistics, f"{prefix}.wr.bytes"),
        read_ms=None if read is None else read / 1e6,
        write_ms=None if write is None else write / 1e6,
        busy_ms=busy,
    )


def _interface(statistics: Mapping[str, Any], prefix: str) -> Interface:
    """libvirt counts from the guest's side: ``rx`` is what the guest received."""

    def counter(key: str) -> int | None:
        return _counter(statistics, f"{prefix}.{key}")

    return Interface(
        in_bytes=counter("rx.bytes"),
        out_bytes=counter("tx.bytes"),
        in_dropped=counter("rx.drop"),
        out_dropped=counter("tx.drop"),
        in_packets=counter("rx.pkts"),
        out_packets=counter("tx.pkts"),
        in_errors=counter("rx.errs"),
        out_errors=counter("tx.errs"),
    )


def _counter(statistics: Mapping[str, Any], key: str) -> int | None:
    value = statistics.get(key)
    if not isinstance(value, int) or not 0 <= value < LARGEST:
        return None
    return value
