"""The id that this machine reports itself under."""

import hashlib
import hmac
import socket
import uuid
from collections.abc import Iterable
from pathlib import Path

MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
HELIOMETER = uuid.UUID("8d3f6a52-9c5e-4b7b-9d0e-2f1c7f5a6e41")
"""The key of the hash: other programs that hash the machine id get another result."""


def instance_id(files: Iterable[Path] = MACHINE_ID_FILES, hostname: str | None = None) -> str:
    """A UUID that stays the same for this machine.

    Derived from its machine id by a keyed hash, because that id is confidential (machine-id(5));
    where there is none (macOS, many containers) from the host name.
    """
    for path in files:
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) == 32:  # neither empty nor "uninitialized"
            digest = hmac.new(text.encode(), HELIOMETER.bytes, hashlib.sha256).digest()
            return str(uuid.UUID(bytes=digest[:16], version=4))
    return str(uuid.uuid5(HELIOMETER, hostname or socket.gethostname()))
