"""Reads a snapshot of this machine through psutil (Linux: /proc/stat, /proc/diskstats,
/proc/net/dev)."""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import psutil  # type: ignore[import-untyped]

from heliometer.collectors.snapshot import Cpu, Disk, Interface, Snapshot

log = logging.getLogger(__name__)

SYS_BLOCK = Path("/sys/block")
VIRTUAL_DISK = re.compile(r"(loop|ram|zram|sr|fd|nbd)\d+")
"""Block devices that are not disks of the machine."""
HOST_SIDE = re.compile(r"veth.+")
"""A container's interface seen from its host: named at random on each of its starts, which would
make series without end. Inside the container it is called eth0, and reported."""
LOOPBACK = re.compile(r"lo\d*")
UNREADABLE = (OSError, RuntimeError, NotImplementedError, psutil.Error)

T = TypeVar("T")


class Reader:
    """Takes snapshots. Counters that cannot be read are logged once and left out."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def read(self, monotonic_s: float) -> Snapshot:
        """Read all counters now. Raises OSError when none could be read."""
        cpu = self._part("processor times", read_cpu, None)
        disks = self._part("disk counters", read_disks, dict[str, Disk]())
        interfaces = self._part("network counters", read_interfaces, dict[str, Interface]())
        if cpu is None and not disks and not interfaces:
            raise OSError("neither processor, disk nor network counters can be read")
        return Snapshot(monotonic_s, cpu, disks, interfaces)

    def _part(self, what: str, read: Callable[[], T], absent: T) -> T:
        try:
            return read()
        except UNREADABLE as error:
            if what not in self._said:
                self._said.add(what)
                log.warning(
                    "host collector: %s cannot be read (%r) and are left out; in a container, "
                    "make /proc and /sys of the host readable",
                    what,
                    error,
                )
            return absent


def read_cpu() -> Cpu:
    """Processor times of all cores together."""
    times = psutil.cpu_times()

    def seconds(*names: str) -> float:
        return sum(getattr(times, name, 0.0) for name in names)

    # Linux counts a guest's time within user and nice, so that it must not be added again.
    used = seconds("user", "nice", "system", "irq", "softirq")
    return Cpu(used, used + seconds("idle", "iowait", "steal"))


def read_disks() -> dict[str, Disk]:
    """Counters of each whole disk, by its kernel name."""
    # nowrap=False: the kernel's own numbers; measure() handles a counter that went back.
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    physical = {path.parent.name for path in SYS_BLOCK.glob("*/device")}
    whole = {path.name for path in SYS_BLOCK.glob("*")}
    return {
        name: Disk(
            c.read_count,
            c.write_count,
            c.read_bytes,
            c.write_bytes,
            getattr(c, "read_time", 0),
            getattr(c, "write_time", 0),
            getattr(c, "busy_time", None),
        )
        for name in whole_disks(counters, physical, whole)
        for c in (counters[name],)
    }


def whole_disks(
    names: Collection[str], physical: Collection[str], whole: Collection[str]
) -> list[str]:
    """Which block devices to report, sorted: the physical disks where there are any.

    Failing that (some containers and virtual machines, macOS) whole devices such as dm-0 or
    disk0, and failing that whatever there is, always without loop devices, RAM disks and drives
    for removable media. ``physical`` and ``whole`` are what the kernel says; may be empty.
    """
    real = sorted(name for name in names if not VIRTUAL_DISK.fullmatch(name))
    choices = (
        [name for name in real if name in physical],
        [name for name in real if name in whole],
        [name for name in real if not _is_partition(name, real)],
    )
    return next((choice for choice in choices if choice), real)


def _is_partition(name: str, names: Collection[str]) -> bool:
    """Whether it is named as part of another device: sda1 of sda, nvme0n1p1 of nvme0n1."""
    return any(
        re.fullmatch(re.escape(other) + (r"p\d+" if other[-1].isdigit() else r"\d+"), name)
        for other in names
    )


def read_interfaces() -> dict[str, Interface]:
    """Counters of each network interface but loopback."""
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    states = psutil.net_if_stats()
    up = {name for name, state in states.items() if state.isup}
    loopback = {name for name, state in states.items() if "loopback" in state.flags.split(",")}
    found = {
        name: Interface(
            c.bytes_recv,
            c.bytes_sent,
            c.dropin,
            c.dropout,
            c.packets_recv,
            c.packets_sent,
            c.errin,
            c.errout,
        )
        for name, c in counters.items()
        if name not in loopback
    }
    return worth_reporting(found, up)


def worth_reporting(
    interfaces: Mapping[str, Interface], up: Collection[str]
) -> dict[str, Interface]:
    """Leave out loopback, the host's side of containers, and what is down and never carried
    anything (the kernel's spare ifb0, sit0 and the like). Sorted by name."""
    return {
        name: counters
        for name, counters in sorted(interfaces.items())
        if not LOOPBACK.fullmatch(name)
        and not HOST_SIDE.fullmatch(name)
        and (name in up or any(counters))
    }
