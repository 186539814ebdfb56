"""The file of keys for secrets: a key a line, in base64; lines that begin with # are remarks."""

import base64
import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from heliometer.core.secret_box import KEY_BYTES, fingerprint, new_key

_HEADING = """\
# Keys of heliometer, by which it encrypts the secrets of notification methods.
# Keep a copy apart from the backups: without it those methods must be made again.
"""
MOST = 16


class UnusableKeyFile(Exception):
    """The file is there, and no keys can be read from it. The message says why."""


def read_keys(path: Path) -> list[bytes]:
    """The keys in the file, in its order; none if there is no such file. Raises UnusableKeyFile."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UnusableKeyFile(f"cannot read {path}: {said}") from error
    keys = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise UnusableKeyFile(f"{path}: line {number} is not a key")
        keys.append(key)
    if not keys or len(keys) > MOST:
        raise UnusableKeyFile(f"{path} has {len(keys)} keys; 1 to {MOST} are allowed")
    return keys


def create(path: Path) -> list[bytes]:
    """Make a file with a new key, unless another process was faster; the keys that it has then.
    Raises UnusableKeyFile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = _write_beside(path, [new_key()])
        try:
            with contextlib.suppress(FileExistsError):
                os.link(partial, path)  # unlike a rename, this never replaces a file
        finally:
            partial.unlink()
        _sync(path.parent)
    except OSError as error:
        raise UnusableKeyFile(f"cannot make {path}: {error.strerror}") from error
    return read_keys(path)


def replace(path: Path, keys: Sequence[bytes]) -> None:
    """Replace the file's keys, durably. Raises UnusableKeyFile."""
    try:
        _write_beside(path, keys).rename(path)
        _sync(path.parent)
    except OSError as error:
        raise UnusableKeyFile(f"cannot write {path}: {error.strerror}") from error


def is_open_to_others(path: Path) -> bool:
    """Whether somebody else than its owner may read the file."""
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False


def _write_beside(path: Path, keys: Sequence[bytes]) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}-{fingerprint(new_key())}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(_HEADING)
        file.writelines(f"{base64.b64encode(key).decode()}\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return partial


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
