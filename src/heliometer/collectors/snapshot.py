"""The counters of one machine, from its kernel or its hypervisor, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Cpu(NamedTuple):
    """Time since boot, summed over all cores, in seconds. For a virtual machine, ``total`` is how
    long its processors could have run since any moment."""

    used: float
    """Spent working for this machine: user, nice, system and interrupts. Neither idle, nor
    waiting for disks, nor stolen by the hypervisor."""
    total: float
    """Used, idle, waiting and stolen together."""


class Disk(NamedTuple):
    """One disk's counters since boot, or since it was plugged in; None if not counted here."""

    read_ops: int | None
    write_ops: int | None
    read_bytes: int | None
    write_bytes: int | None
    read_ms: float | None
    write_ms: float | None
    busy_ms: float | None
    """macOS does not count it."""


class Interface(NamedTuple):
    """One network interface's counters since it came up; None if not counted here."""

    in_bytes: int | None
    out_bytes: int | None
    in_dropped: int | None
    out_dropped: int | None
    in_packets: int | None
    out_packets: int | None
    in_errors: int | None
    out_errors: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counters, except those that could not be read."""

    monotonic_s: float
    """When it was taken, by a monotonic clock, in seconds."""
    cpu: Cpu | None = None
    disks: Mapping[str, Disk] = field(default_factory=dict)
    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)
    """What backs the device of a name, where that is known: another disk under the same name must
    not be compared with the one before."""
