"""Checks of the data directory and the disk that it is on."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from heliometer.config import Settings
from heliometer.core.finding import FAIL, OK, WARN, Finding, size
from heliometer.core.server_status import ServerStatus

MEMORY = {"tmpfs", "ramfs"}
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "afs", "fuse.sshfs"}


def directory(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether it exists, is owned by this user and writable, and closed to others."""
    name = "data directory"
    folder = settings.data_dir
    if not folder.exists():
        parent = _existing(folder)
        if os.access(parent, os.W_OK | os.X_OK):
            yield Finding(name, OK, f"{folder} does not exist yet; the first start creates it")
        else:
            yield Finding(
                name, FAIL, f"{folder} does not exist and {parent} is not writable",
                "create it for the user that runs the server, or set server.data_dir",
            )  # fmt: skip
        return
    if not folder.is_dir():
        yield Finding(name, FAIL, f"{folder} is not a folder", "set server.data_dir")
        return
    about = folder.stat()
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(name, FAIL, f"{folder} is not writable", "chown or chmod it")
    elif about.st_uid != os.geteuid():
        yield Finding(
            name, WARN, f"{folder} belongs to user id {about.st_uid}, not to you",
            "run the server and these commands as its owner",
        )  # fmt: skip
    elif stat.S_IMODE(about.st_mode) & 0o077:
        yield Finding(
            name, WARN, f"others can open {folder}, which has password hashes and tenants' data",
            f"chmod 700 {folder}",
        )  # fmt: skip
    else:
        yield Finding(name, OK, f"{folder} is writable and closed to others")


def disk(settings: Settings, server: ServerStatus) -> Iterator[Finding]:
    """Whether there is space, on a file system that keeps what was synced to it."""
    folder = _existing(settings.data_dir)
    free = shutil.disk_usage(folder).free
    least = settings.metrics.min_free_bytes
    summary = f"{size(free)} free; writes are refused below {size(least)}"
    advice = "free space, keep less (metrics.retention_days), or move the data directory"
    if free < least:
        yield Finding("disk", FAIL, summary, advice)
    elif free < 4 * least:
        yield Finding("disk", WARN, summary, advice)
    else:
        yield Finding("disk", OK, summary)
    kind = _file_system(folder)
    if kind in MEMORY:
        yield Finding(
            "file system", WARN, f"{kind} is memory: everything on it is lost at the next boot",
            "put the data directory on a disk",
        )  # fmt: skip
    elif kind in NETWORK:
        yield Finding(
            "file system", WARN, f"{kind} is a network file system, on whose locks and syncs "
            "the embedded databases cannot rely", "put the data directory on a local disk",
        )  # fmt: skip
    else:
        yield Finding("file system", OK, kind or "unknown")


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _file_system(folder: Path) -> str:
    """Type of the file system that the folder is on; empty: unknown."""
    import psutil  # type: ignore[import-untyped]

    real = folder.resolve()
    best, kind = -1, ""
    for mount in psutil.disk_partitions(all=True):
        point = Path(mount.mountpoint)
        # A later mount on the same point hides the earlier one.
        if real.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), mount.fstype
    return kind
