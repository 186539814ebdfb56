"""Turns two snapshots into measurements. Pure: no clock, no input or output."""

from collections.abc import Iterator, Mapping

from heliometer.collectors import Measurement
from heliometer.collectors.snapshot import Cpu, Disk, Interface, Snapshot

COMPUTE = "hpcs.compute"
VOLUME = "hpcs.volume"

CPU_SLACK = 4
"""Factor of the processor's capacity by which its time may grow, since clocks differ slightly."""
MOST_A_SECOND = 1e12
"""Growth that no counter of a disk or interface reaches in a second: the bytes of a terabyte."""
DISK_METRICS = ("read_ops", "write_ops", "read_bytes", "write_bytes")
INTERFACE_METRICS = Interface._fields
VOLUME_TIMES = {"volume_read_time": "read_ms", "volume_write_time": "write_ms"}


def measure(
    before: Snapshot | None,
    after: Snapshot,
    instance_id: str,
    timestamp_ms: int,
    project_id: str = "",
) -> list[Measurement]:
    """The measurements at ``after``: counters always, and deltas since ``before``.

    Deltas are left out where there is nothing to compare with: in the first round, and for a device
    that was just plugged in or replaced, or of which any counter went back (it was reset or
    unplugged in between, so its other deltas are meaningless too) or grew faster than any device
    can.
    """

    def compute(name: str, value: float, device: str = "") -> Measurement:
        dimensions = {"instance_id": instance_id, "metric_name": name}
        if device:
            dimensions["device"] = device
        return Measurement(COMPUTE, dimensions, timestamp_ms, float(value), project_id)

    def volume(name: str, value: float, disk: str) -> Measurement:
        dimensions = {"instance_id": instance_id, "metric_name": name, "disk": disk}
        return Measurement(VOLUME, dimensions, timestamp_ms, float(value), project_id)

    before = before or Snapshot(after.monotonic_s)
    elapsed_s = after.monotonic_s - before.monotonic_s
    found: list[Measurement] = []
    for name, value in _cpu(before.cpu, after.cpu):
        found.append(compute(name, value))
    same = {
        device
        for device in (*after.disks, *after.interfaces)
        if before.identities.get(device) == after.identities.get(device)
    }
    for device, disk in after.disks.items():
        old = before.disks.get(device) if device in same else None
        delta = _difference(old, disk, elapsed_s)
        for name in DISK_METRICS:
            if (counter := getattr(disk, name)) is not None:
                found.append(compute(f"disk_{name}_count", counter, device))
            if name in delta:
                found.append(compute(f"disk_{name}", delta[name], device))
        for name, value in _volume(delta, elapsed_s):
            found.append(volume(name, value, device))
    for device, interface in after.interfaces.items():
        was = before.interfaces.get(device) if device in same else None
        delta = _difference(was, interface, elapsed_s)
        for name in INTERFACE_METRICS:
            if (counter := getattr(interface, name)) is not None:
                found.append(compute(f"net_{name}_count", counter, device))
            if name in delta:
                found.append(compute(f"net_{name}", delta[name], device))
    return found


def remembered(before: Snapshot | None, after: Snapshot) -> Snapshot:
    """The base of the next comparison: ``after``, completed from ``before`` where it could not be
    read, so that no growth is lost."""
    if before is None:
        return after
    return Snapshot(
        after.monotonic_s,
        after.cpu or before.cpu,
        {**before.disks, **after.disks},
        {**before.interfaces, **after.interfaces},
        {**before.identities, **after.identities},
    )


def utilization(before: Cpu, after: Cpu) -> float | None:
    """Percentage of all cores used in between, 0 … 100; None if no time passed or it went back."""
    used, total = after.used - before.used, after.total - before.total
    if used < 0 or total <= 0:
        return None
    # The kernel accounts parts of a tick separately, so the used time may exceed it slightly.
    return min(100.0, used / total * 100)


def _cpu(before: Cpu | None, after: Cpu | None) -> Iterator[tuple[str, float]]:
    if after is None:
        return
    yield "cpu_total_time", _nanoseconds(after.used)
    if before is None:
        return
    percent = utilization(before, after)
    if percent is not None:
        # Values below the smallest that may be stored (1e-108) cannot come about: ticks are 10 ms.
        yield "cpu_total_utilization", round(percent, 3)
    grown = after.used - before.used
    if 0 <= grown <= CPU_SLACK * max(1.0, after.total - before.total):
        # The difference of reported values, so that counter and delta agree to the nanosecond.
        yield "cpu_time", _nanoseconds(after.used) - _nanoseconds(before.used)


def _volume(delta: Mapping[str, float], elapsed_s: float) -> Iterator[tuple[str, float]]:
    for name in DISK_METRICS:
        if name in delta:
            yield f"volume_{name}", delta[name]
    for name, counter in VOLUME_TIMES.items():
        if counter in delta:
            yield name, round(delta[counter] / 1000, 9)
    if "busy_ms" in delta and elapsed_s > 0:
        # A disk's clock and ours differ by some milliseconds, hence never below 0.
        yield "volume_idle_time", max(0.0, round(elapsed_s - delta["busy_ms"] / 1000, 3))


def _difference(
    before: Disk | Interface | None, after: Disk | Interface, elapsed_s: float
) -> dict[str, float]:
    """The growth of each counter; empty if it cannot be known."""
    if before is None:
        return {}
    grown: dict[str, float] = {}
    for name in after._fields:
        old, new = getattr(before, name), getattr(after, name)
        if old is None or new is None:
            continue
        if new < old or new - old > MOST_A_SECOND * max(1.0, elapsed_s):
            return {}
        grown[name] = new - old
    return grown


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
