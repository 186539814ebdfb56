"""Checks of the machine and the server's own listener: versions, port, TLS, clock, limits."""

import ctypes
import platform
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import duckdb

from heliometer import __version__
from heliometer.config import Settings
from heliometer.core.certificate import validity
from heliometer.core.finding import FAIL, OK, WARN, Finding
from heliometer.core.loopback import LOOPBACK
from heliometer.core.server_status import ServerStatus

RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that is right shows an earlier time: this version did not exist then."""
SKEW_S = 5
"""Tolerated difference to the server's Date header, which has whole seconds."""
FUTURE_S = 120
FILES = 4096
TIME_ERROR = 5
"""What adjtimex(2) answers while the clock is not synchronized."""


def versions(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Of the program, and of the libraries that its data depends on."""
    found = (
        f"heliometer {__version__}, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}, SQLite {sqlite3.sqlite_version}"
    )
    if sys.version_info < (3, 11) or int(duckdb.__version__.split(".")[0]) != 2:
        yield Finding(
            "versions", FAIL, found, "install Python 3.11 or newer and DuckDB 2: make install"
        )
    else:
        yield Finding("versions", OK, found)


def port(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether the address is free, or served by us."""
    listen = settings.server.listen
    if server.ours and not server.has_data_dir and not settings.clustered:
        yield Finding(
            "server", FAIL, f"the server at {server.url} has another data directory",
            "set server.listen, or use its data directory",
        )  # fmt: skip
        return
    if server.ours:
        yield Finding("server", OK, f"runs and answers at {server.url}")
        return
    host, number = settings.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, number))
    except OSError as error:
        yield Finding(
            "server", FAIL, f"cannot listen on {listen}: {error.strerror or error}",
            "end the program that uses the address, or set server.listen",
        )  # fmt: skip
    else:
        # Processes of a cluster have addresses of their own, and are listed one by one.
        free = f"{listen} is free"
        yield Finding("server", OK, free if settings.clustered else f"does not run; {free}")


def health(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """What the running server itself finds not to work, other than what has a check of its own."""
    for level, part in ((FAIL, "failed"), (WARN, "degraded")):
        for name, why in server.found(part).items():
            if name == "tasks":
                yield Finding("tasks", FAIL, why, "see the server's log; restart it")
            elif name in ("alarms", "process"):
                yield Finding("health", level, f"{name}: {why}", "see the server's log")


def tls(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether certificate and key can be used, and for how long."""
    certificate, key = settings.server.tls_cert, settings.server.tls_key
    if not certificate:
        host, _ = settings.address
        local = host in LOOPBACK
        yield Finding(
            "TLS", OK if local else WARN,
            "off" if local else f"off, though other machines can reach {settings.server.listen}",
            "" if local else "set server.tls_cert and tls_key, or put a TLS proxy in front",
        )  # fmt: skip
        return
    yield validity("TLS", "server", certificate, key)


def clock(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether the clock is plausible. Measurements and alarms depend on it."""
    now = datetime.now(UTC)
    advice = "set the clock; keep it right with NTP (timedatectl set-ntp true)"
    if now < RELEASED:
        yield Finding(
            "clock",
            FAIL,
            f"{now:%Y-%m-%d %H:%M} UTC is before this version's release",
            advice,
        )
        return
    newest = _newest_file(settings)
    if newest > time.time() + FUTURE_S:
        yield Finding(
            "clock", FAIL, f"{now:%Y-%m-%d %H:%M} UTC is earlier than the newest file of the data "
            f"({datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC)", advice,
        )  # fmt: skip
        return
    asked = server.asked_at or now
    if server.date is not None and abs((asked - server.date).total_seconds()) > SKEW_S:
        yield Finding(
            "clock", WARN, f"the server's clock says {server.date:%H:%M:%S}, "
            f"this one {asked:%H:%M:%S} UTC", advice,
        )  # fmt: skip
        return
    synchronized = _synchronized()
    if synchronized is False:
        yield Finding("clock", WARN, "plausible, but not synchronized", advice)
    else:
        known = ", synchronized" if synchronized else ""
        yield Finding("clock", OK, f"{now:%Y-%m-%d %H:%M:%S} UTC is plausible{known}")


def file_limit(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether enough connections may be open at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (resource.RLIM_INFINITY, -1) and hard < FILES:
        yield Finding(
            "limits", WARN, f"only {hard} open files, which limits connections",
            f"raise the limit to {FILES} or more (ulimit -n, or LimitNOFILE= of the unit)",
        )  # fmt: skip
    else:
        yield Finding("limits", OK, "enough open files are allowed")


def _newest_file(settings: Settings) -> float:
    folder = settings.data_dir
    times = [0.0]
    for path in (*folder.glob("*"), *folder.glob("metrics/*")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _synchronized() -> bool | None:
    """Whether the kernel considers the clock synchronized; ``None``: unknown."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            # struct timex, zeroed: modes 0 only reads. It has 208 bytes where it is largest.
            state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
            if state >= 0:
                return bool(state != TIME_ERROR)
    if shutil.which("timedatectl"):
        with suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                ["timedatectl", "show", "-p", "NTPSynchronized", "--value"],
                capture_output=True, text=True, timeout=5, check=True,
            ).stdout.strip()  # fmt: skip
            return {"yes": True, "no": False}.get(answer)
    return None
