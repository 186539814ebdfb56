"""Processes as /proc shows them."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path


def arguments(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone, or dead and not reaped."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def processes() -> Iterator[int]:
    """The ids of all processes."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    state = fields(pid)
    return bool(state) and state[0] not in "ZX"


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for each in processes():
        if state := fields(each):
            children.setdefault(int(state[1]), []).append(each)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def started(pid: int) -> float:
    """Unix time of the start of a process."""
    ticks = int(fields(pid)[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def send(pid: int, number: int) -> None:
    """Send a signal; it may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def gone(pids: list[int], seconds: float) -> bool:
    """Wait until none of them runs; return whether that is so."""
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def holder(port: int) -> str:
    """What listens on a port, as far as one may see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                column = line.split()
                if column[3] == "0A" and int(column[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{column[9]}]")
    for pid in processes():
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                        return f"process {pid} ({' '.join(arguments(pid))[:100]})"
    return "another process"
