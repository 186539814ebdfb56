"""What the kernel counts, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Cpu(NamedTuple):
    """Time since boot, summed over all cores, in seconds."""

    used: float
    """Spent working for this machine: user, nice, system and interrupts. Neither idle, nor
    waiting for disks, nor stolen by the hypervisor."""
    total: float
    """Used, idle, waiting and stolen together."""


class Disk(NamedTuple):
    """One disk's counters since boot, or since it was plugged in."""

    read_ops: int
    write_ops: int
    read_bytes: int
    write_bytes: int
    read_ms: int
    write_ms: int
    busy_ms: int | None
    """None where the system does not count it (macOS)."""


class Interface(NamedTuple):
    """One network interface's counters since it came up."""

    in_bytes: int
    out_bytes: int
    in_dropped: int
    out_dropped: int
    in_packets: int
    out_packets: int
    in_errors: int
    out_errors: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counters; what could not be read is absent."""

    monotonic_s: float
    """When it was taken, by a clock that is never set."""
    cpu: Cpu | None = None
    disks: Mapping[str, Disk] = field(default_factory=dict)
    interfaces: Mapping[str, Interface] = field(default_factory=dict)
