"""Messages as files, for a service without a relay."""

import os
from pathlib import Path


def probe(folder: Path) -> None:
    """Raise OSError unless files can be written there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / ".probe"
    path.write_bytes(b"")
    path.unlink()


def write(folder: Path, name: str, content: bytes, *, within: Path | None = None) -> Path:
    """Write a file durably; it appears whole or not at all, and a duplicate replaces it.

    ``within`` is the folder for the incomplete file, such as ``tmp`` of a maildir.
    """
    scratch = within or folder
    for place in (folder, scratch):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, partial = folder / name, scratch / f".{name}.part"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    listing = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(listing)
    finally:
        os.close(listing)
    return path
