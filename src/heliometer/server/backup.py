"""Back up the embedded data, while it is being served, to one tar file."""

import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from heliometer import __version__
from heliometer.core.errors import Code, HeliometerError
from heliometer.storage.duckdb.database_copy import DatabaseCopy
from heliometer.storage.duckdb.store import DuckDBStore
from heliometer.storage.sql.database import Database

FORMAT = 1


@dataclass(frozen=True, slots=True)
class BackedUp:
    """Size and content of a backup."""

    bytes: int
    series: int
    measurements: int

    def to_dict(self) -> dict[str, int]:
        """The same as a dictionary, for JSON."""
        return asdict(self)


async def back_up(store: DuckDBStore, resources: Database, target: Path) -> BackedUp:
    """Write the tar; it appears whole or not at all.

    The first member, ``manifest.json``, names every file with its size and SHA-256. Raises
    CONFLICT when the target exists, UNAVAILABLE when it cannot be written.
    """
    if target.exists():
        raise HeliometerError(Code.CONFLICT, f"{target} exists.", details="Choose another name.")
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as folder:
            copy = Path(folder) / "resources.sqlite"
            await resources.backup(copy)
            key = resources.secrets.current
            return await store.backup(lambda snapshot: _write(target, copy, key, snapshot))
    except OSError as error:
        raise HeliometerError(
            Code.UNAVAILABLE, f"The backup to {target} failed: {error.strerror or error}."
        ) from error


def _write(target: Path, resources: Path, key: str, snapshot: DatabaseCopy) -> BackedUp:
    members = {
        "resources.sqlite": resources,
        "metrics/recent.duckdb": snapshot.database,
        **{f"metrics/partitions/{p.name}": p for p in snapshot.partitions if p.exists()},
    }
    manifest = {
        "format": FORMAT,
        "version": __version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        # Which key its secrets need after a restore; the key itself is never in it.
        "secret_key": key,
        "files": {
            name: {"size": path.stat().st_size, "sha256": _sha256(path)}
            for name, path in members.items()
        },
    }
    partial = target.with_name(f"{target.name}.part-{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                text = json.dumps(manifest, indent=1).encode()
                first = tarfile.TarInfo("manifest.json")
                first.size, first.mtime = len(text), int(time.time())
                tar.addfile(first, io.BytesIO(text))
                for name, path in members.items():
                    tar.add(path, name)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, target)  # unlike a rename, this never replaces a file
        return BackedUp(target.stat().st_size, snapshot.series, snapshot.measurements)
    finally:
        partial.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
