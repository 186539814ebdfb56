"""Restoring a backup: unpack beside the target, verify, then rename."""

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from heliometer.cli.errors import CommandError
from heliometer.cli.input_files import Progress
from heliometer.cli.push import progress_bar
from heliometer.config import KEY_FILE
from heliometer.core.key_file import UnusableKeyFile, read_keys, replace
from heliometer.core.secret_box import fingerprint
from heliometer.server.control_client import is_in_use

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 64 << 20
CHUNK = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """A file of the backup, and how to recognize damage."""

    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The backup's own list of its content."""

    format: int
    version: str
    created: str
    files: dict[str, Entry]
    secret_key: str = ""
    """Fingerprint of the key that secrets in it are encrypted with; empty: there are none."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and where what was there before is now."""

    files: int
    bytes: int
    created: str
    aside: Path | None
    secret_key: str
    """Fingerprint of the key that its secrets need."""
    has_key: bool
    """Whether the key is in the new data directory, taken over from what was there before."""


def restore_to(archive: Path, target: Path, *, force: bool) -> Restored:
    """Create ``target`` from a backup: whole, or not at all. Raises CommandError."""
    occupied = _check_target(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.restoring-", dir=target.parent))
    except OSError as error:
        raise CommandError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        manifest = _unpack(archive, staging)
        _sync_folders(staging)
        aside = _swap(staging, target, occupied=occupied)
    except OSError as error:
        raise CommandError(
            f"the restore failed and changed nothing: {error.filename or target}: {error.strerror}"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    has_key = aside is not None and _take_over_key(aside, target, manifest.secret_key)
    size = sum(entry.size for entry in manifest.files.values())
    return Restored(
        len(manifest.files), size, manifest.created, aside, manifest.secret_key, has_key
    )


def _check_target(target: Path, *, force: bool) -> bool:
    """Whether something is there that must be moved aside."""
    if target.is_symlink():
        raise CommandError(f"{target} is a symbolic link; name the folder itself")
    if not target.exists():
        return False
    if not target.is_dir():
        raise CommandError(f"{target} is not a folder")
    if is_in_use(target):
        raise CommandError(f"a server runs on {target}; stop it first")
    try:
        occupied = any(target.iterdir())
    except OSError as error:
        raise CommandError(f"cannot read {target}: {error.strerror}") from error
    if occupied and not force:
        raise CommandError(
            f"{target} is not empty; choose another folder, or use --force to move it aside"
        )
    return occupied


def _unpack(archive: Path, folder: Path) -> Manifest:
    """Write every file of the manifest into ``folder`` and check it. Raises CommandError."""
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            manifest = _manifest(archive, tar)
            waiting = dict(manifest.files)
            size = sum(entry.size for entry in waiting.values())
            free = shutil.disk_usage(folder).free
            if size > free:
                raise CommandError(
                    f"{archive} needs {size} bytes in {folder.parent}, where {free} are free"
                )
            with progress_bar(f"restoring {archive.name}", size) as progress:
                for member in tar:
                    _unpack_member(tar, member, waiting, folder, progress)
    except (tarfile.TarError, EOFError) as error:
        raise CommandError(f"{archive} is not a complete backup: {error}") from error
    except FileNotFoundError as error:
        if error.filename == str(archive):
            raise CommandError(f"there is no file {archive}") from error
        raise
    if waiting:
        raise CommandError(
            f"{archive} is not complete: {', '.join(sorted(waiting)[:5])} is missing"
        )
    return manifest


def _manifest(archive: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg():
        raise CommandError(f"{archive} is not a backup: it does not begin with {MANIFEST}")
    if first.size > MANIFEST_LIMIT:
        raise CommandError(f"{archive} is not a backup: its {MANIFEST} is too large")
    content = tar.extractfile(first)
    assert content is not None  # it is a regular file
    try:
        manifest = msgspec.json.decode(content.read(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise CommandError(f"{archive} is not a backup: its {MANIFEST}: {error}") from error
    if manifest.format != FORMAT:
        raise CommandError(
            f"{archive} has format {manifest.format}, written by heliometer {manifest.version}; "
            f"this version restores format {FORMAT}"
        )
    for name, entry in manifest.files.items():
        if not _is_plain(name) or entry.size < 0:
            raise CommandError(f"{archive} is not a backup: {name!a} may not be a file in it")
    return manifest


def _is_plain(name: str) -> bool:
    """Whether a name stays within the folder, whatever the platform makes of it."""
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and str(path) == name
        and name.isprintable()
        and name != MANIFEST
        and "\\" not in name
    )


def _unpack_member(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    waiting: dict[str, Entry],
    folder: Path,
    progress: Progress,
) -> None:
    if member.name == MANIFEST:
        return
    # The standard library's filter refuses links out of the folder, devices and the like;
    # beyond it only the regular files that the manifest names are written, with our own mode.
    member = tarfile.data_filter(member, str(folder))
    entry = waiting.pop(member.name, None)
    if entry is None or not member.isreg():
        raise CommandError(f"the backup has {member.name!a}, which its manifest does not name once")
    if member.size != entry.size:
        raise CommandError(f"{member.name} has {member.size} bytes instead of {entry.size}")
    content = tar.extractfile(member)
    assert content is not None  # it is a regular file
    path = folder / member.name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        digest = _copy(content, out, progress)
        out.flush()
        os.fsync(out.fileno())
    if digest != entry.sha256:
        raise CommandError(f"{member.name} is damaged: its checksum is not the manifest's")


def _copy(source: IO[bytes], target: IO[bytes], progress: Progress) -> str:
    """Copy to the end; the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
        progress(len(chunk))
    return digest.hexdigest()


def _sync_folders(folder: Path) -> None:
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        _sync(path)


def _swap(staging: Path, target: Path, *, occupied: bool) -> Path | None:
    """Rename ``staging`` to ``target``; where something is, move that aside first."""
    aside = None
    if occupied:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = target.with_name(f"{target.name}.before-restore-{stamp}")
        if aside.exists():
            raise CommandError(f"{aside} exists; try again in a second")
        target.rename(aside)
    try:
        staging.rename(target)  # replaces an empty folder
    except OSError:
        if aside is not None:
            aside.rename(target)
        raise
    _sync(target.parent)
    return aside


def _take_over_key(aside: Path, target: Path, wanted: str) -> bool:
    """Whether the key that the backup's secrets need was in the former data directory; if so it is
    in the new one too."""
    try:
        keys = read_keys(aside / KEY_FILE)
        if wanted not in map(fingerprint, keys):
            return False
        replace(target / KEY_FILE, keys)
    except UnusableKeyFile:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
