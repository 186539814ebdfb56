"""What is counted of one machine, by its kernel or its hypervisor, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Cpu(NamedTuple):
    """Time since boot, summed over all cores, in seconds. Of a virtual machine ``total`` is how
    long its processors could have run, since whenever."""

    used: float
    """Spent working for this machine: user, nice, system and interrupts. Neither idle, nor
    waiting for disks, nor stolen by the hypervisor."""
    total: float
    """Used, idle, waiting and stolen together."""


class Disk(NamedTuple):
    """One disk's counters since boot, or since it was plugged in. None: it is not counted here."""

    read_ops: int | None
    write_ops: int | None
    read_bytes: int | None
    write_bytes: int | None
    read_ms: float | None
    write_ms: float | None
    busy_ms: float | None
    """macOS does not count it."""


class Interface(NamedTuple):
    """One network interface's counters since it came up. None: it is not counted here."""

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
    """All counters; what could not be read is absent."""

    monotonic_s: float
    """When it was taken, by a clock that is never set."""
    cpu: Cpu | None = None
    disks: Mapping[str, Disk] = field(default_factory=dict)
    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)
    """What stands behind the name of a device, where that is known: another disk under the same
    name is not to be compared with the one before."""
