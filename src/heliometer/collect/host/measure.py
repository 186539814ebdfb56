"""From two snapshots to measurements. Pure: no clock, no reading."""

from collections.abc import Iterator, Mapping

from heliometer.collect import Measurement
from heliometer.collect.host.snapshot import Cpu, Disk, Interface, Snapshot

COMPUTE = "hpcs.compute"
VOLUME = "hpcs.volume"

DISK_METRICS = ("read_ops", "write_ops", "read_bytes", "write_bytes")
INTERFACE_METRICS = Interface._fields
VOLUME_TIMES = {"volume_read_time": "read_ms", "volume_write_time": "write_ms"}


def measure(
    before: Snapshot | None, after: Snapshot, instance_id: str, timestamp_ms: int
) -> list[Measurement]:
    """What to report at ``after``: counters always, deltas over the time since ``before``.

    A delta is left out for a round where there is nothing to compare with: the first round, a
    device that was just plugged in, and one of which any counter went back (it was reset or
    unplugged in between, so that its other differences mean nothing either).
    """

    def compute(name: str, value: float, device: str = "") -> Measurement:
        dimensions = {"instance_id": instance_id, "metric_name": name}
        if device:
            dimensions["device"] = device
        return Measurement(COMPUTE, dimensions, timestamp_ms, float(value))

    def volume(name: str, value: float, disk: str) -> Measurement:
        dimensions = {"instance_id": instance_id, "metric_name": name, "disk": disk}
        return Measurement(VOLUME, dimensions, timestamp_ms, float(value))

    before = before or Snapshot(after.monotonic_s)
    elapsed_s = after.monotonic_s - before.monotonic_s
    found: list[Measurement] = []
    for name, value in _cpu(before.cpu, after.cpu):
        found.append(compute(name, value))
    for device, disk in after.disks.items():
        delta = _difference(before.disks.get(device), disk)
        for name in DISK_METRICS:
            found.append(compute(f"disk_{name}_count", getattr(disk, name), device))
            if delta is not None:
                found.append(compute(f"disk_{name}", delta[name], device))
        if delta is not None:
            for name, value in _volume(delta, elapsed_s):
                found.append(volume(name, value, device))
    for device, interface in after.interfaces.items():
        delta = _difference(before.interfaces.get(device), interface)
        for name in INTERFACE_METRICS:
            found.append(compute(f"net_{name}_count", getattr(interface, name), device))
            if delta is not None:
                found.append(compute(f"net_{name}", delta[name], device))
    return found


def utilization(before: Cpu, after: Cpu) -> float | None:
    """Percent of all cores used in between, 0 … 100; None when no time passed or it went back."""
    used, total = after.used - before.used, after.total - before.total
    if used < 0 or total <= 0:
        return None
    # The kernel keeps the parts of a tick apart, so that the used time may exceed it by a little.
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
    if after.used >= before.used:
        # The difference of what is reported, so that counter and delta agree to the nanosecond.
        yield "cpu_time", _nanoseconds(after.used) - _nanoseconds(before.used)


def _volume(delta: Mapping[str, int], elapsed_s: float) -> Iterator[tuple[str, float]]:
    for name in DISK_METRICS:
        yield f"volume_{name}", delta[name]
    for name, counter in VOLUME_TIMES.items():
        yield name, delta[counter] / 1000
    if "busy_ms" in delta and elapsed_s > 0:
        # A disk's clock and ours differ by some milliseconds, hence never below 0.
        yield "volume_idle_time", max(0.0, round(elapsed_s - delta["busy_ms"] / 1000, 3))


def _difference(before: Disk | Interface | None, after: Disk | Interface) -> dict[str, int] | None:
    """By how much each counter grew; None when that cannot be known."""
    if before is None:
        return None
    grown: dict[str, int] = {}
    for name in after._fields:
        old, new = getattr(before, name), getattr(after, name)
        if old is None or new is None:
            continue
        if new < old:
            return None
        grown[name] = new - old
    return grown


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
