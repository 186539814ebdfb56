"""Restoring: whole and verified, or not at all."""

import hashlib
import io
import json
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from heliometer.cli.errors import CommandError
from heliometer.cli.restore import restore_to

FILES = {"resources.sqlite": b"users", "metrics/recent.duckdb": b"numbers" * 100_000}


def manifest(files: dict[str, bytes] = FILES, **changes: Any) -> bytes:
    entries = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    fields = {"format": 1, "version": "0.1.0", "created": "2026-11-20T12:00:00Z", "files": entries}
    return json.dumps({**fields, **changes}).encode()


def archive(path: Path, members: list[tuple[tarfile.TarInfo | str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def good(path: Path) -> Path:
    return archive(path, [("manifest.json", manifest()), *FILES.items()])


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_restores_what_was_backed_up(tmp_path: Path) -> None:
    report = restore_to(good(tmp_path / "b.tar"), tmp_path / "deep" / "var", force=False)
    assert (report.files, report.aside) == (2, None)
    for name, data in FILES.items():
        path = tmp_path / "deep" / "var" / name
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "deep" / "var").stat().st_mode & 0o777 == 0o700
    assert leftovers(tmp_path / "deep") == ["var"]


def test_what_is_there_is_kept_or_moved_aside(tmp_path: Path) -> None:
    backup, target = good(tmp_path / "b.tar"), tmp_path / "var"
    target.mkdir()
    restore_to(backup, target, force=False)
    (target / "resources.sqlite").write_bytes(b"newer")
    with pytest.raises(CommandError, match=r"is not empty; .* --force"):
        restore_to(backup, target, force=False)
    report = restore_to(backup, target, force=True)
    assert report.aside is not None
    assert report.aside.name.startswith("var.before-restore-")
    assert (report.aside / "resources.sqlite").read_bytes() == b"newer"
    assert (target / "resources.sqlite").read_bytes() == b"users"


def test_refuses_while_a_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup, target = good(tmp_path / "b.tar"), tmp_path / "var"
    target.mkdir()
    monkeypatch.chdir(target)  # the path of a socket is short, that of a test's folder is not
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("control.sock")
        listener.listen()
        monkeypatch.setattr("heliometer.server.control_client.SOCKET", "control.sock")
        try:
            listening = socket.socket(socket.AF_UNIX)
            listening.connect(str(target / "control.sock"))
            listening.close()
        except OSError:
            pytest.skip("the folder's path is too long for a socket")
        with pytest.raises(CommandError, match="a server runs on"):
            restore_to(backup, target, force=True)
    # The socket of a server that died is no server.
    restore_to(backup, target, force=True)


def test_refuses_while_the_store_is_locked(tmp_path: Path) -> None:
    backup, target = good(tmp_path / "b.tar"), tmp_path / "var"
    store = target / "metrics" / "recent.duckdb"
    store.parent.mkdir(parents=True)
    store.touch()
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX);"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(CommandError, match="a server runs on"):
            restore_to(backup, target, force=True)
    restore_to(backup, target, force=True)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


NAME = "resources.sqlite"
ONE = {NAME: b"users"}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "does not begin with manifest.json"),
        ([(NAME, b"users")], "does not begin with manifest.json"),
        ([("manifest.json", b"{")], "manifest.json: "),
        ([("manifest.json", b"{}")], "manifest.json: "),
        ([("manifest.json", manifest(format=2))], "has format 2"),
        ([("manifest.json", manifest(ONE))], "resources.sqlite is missing"),
        ([("manifest.json", manifest(ONE)), (NAME, b"Users")], "its checksum is not"),
        ([("manifest.json", manifest(ONE)), (NAME, b"user")], "4 bytes instead of 5"),
        ([("manifest.json", manifest(ONE)), (NAME, b"users"), ("x", b"")], "does not name once"),
        ([("manifest.json", manifest(ONE)), (NAME, b"users"), (NAME, b"users")], "name once"),
        ([("manifest.json", manifest(ONE)), (link(NAME, "/etc/passwd"), b"")], "link"),
        ([("manifest.json", manifest(ONE)), (link(NAME, "x"), b"")], "does not name once"),
        ([("manifest.json", manifest({"../x": b"a"})), ("../x", b"a")], "'../x' may not be"),
        ([("manifest.json", manifest({"/x": b"a"})), ("/x", b"a")], "'/x' may not be"),
        ([("manifest.json", manifest({"a//b": b"a"}))], "'a//b' may not be"),
        ([("manifest.json", manifest({"": b"a"}))], "'' may not be"),
        ([("manifest.json", manifest(ONE)), ("../x", b"a")], "outside"),
    ],
)
def test_a_wrong_backup_changes_nothing(
    members: list[tuple[tarfile.TarInfo | str, bytes]], words: str, tmp_path: Path
) -> None:
    backup = archive(tmp_path / "b.tar", members)
    old = tmp_path / "var"
    old.mkdir()
    (old / "kept").touch()
    with pytest.raises(CommandError) as caught:
        restore_to(backup, old, force=True)
    assert words in caught.value.message
    assert leftovers(tmp_path) == ["b.tar", "var"]
    assert leftovers(old) == ["kept"]


def test_a_backup_that_was_cut_off(tmp_path: Path) -> None:
    backup = good(tmp_path / "b.tar")
    data = backup.read_bytes()
    for size in (0, 100, 700, 3000, len(data) // 2):
        backup.write_bytes(data[:size])
        with pytest.raises(CommandError):
            restore_to(backup, tmp_path / "var", force=False)
        assert leftovers(tmp_path) == ["b.tar"]
