"""The doctor: what it finds, and that it finds it without a server."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from certificates import make
from heliometer.cli import run
from heliometer.config import MetricSettings, ServerSettings, Settings
from heliometer.core.finding import FAIL, OK, WARN
from heliometer.core.server_status import ServerStatus
from heliometer.server.data_directory_checks import directory, disk
from heliometer.server.host_checks import clock, port, tls
from heliometer.server.server_probe import probe

NOBODY = ServerStatus("http://127.0.0.1:1", has_data_dir=False)


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(server=ServerSettings(data_dir=str(folder), **changes))


@pytest.fixture(autouse=True)
def free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOMETER_SERVER_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("HELIOMETER_AMQP_LISTEN", "127.0.0.1:0")


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {each["check"]: each["level"] for each in json.loads(capsys.readouterr().out)}


def test_before_the_first_start_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--data-dir", str(tmp_path / "var"), "--json"]) == 0
    found = findings(capsys)
    assert set(found) >= {
        "settings",
        "data directory",
        "disk",
        "resources",
        "measurements",
        "clock",
    }
    assert "FAIL" not in found.values()
    assert list(tmp_path.iterdir()) == []


def test_a_used_data_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "var"
    assert run(["project", "create", "shop", "--data-dir", str(data)]) == 0
    capsys.readouterr()
    assert run(["doctor", "--data-dir", str(data)]) == 0
    assert "is whole and up to date" in capsys.readouterr().out
    with sqlite3.connect(data / "resources.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert run(["doctor", "--data-dir", str(data)]) == 1
    assert "FAIL  resources:" in capsys.readouterr().out
    (data / "resources.sqlite").write_bytes(b"nonsense" * 1000)
    assert run(["doctor", "--data-dir", str(data), "--json"]) == 1
    assert findings(capsys)["resources"] == "FAIL"


def test_wrong_settings_are_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HELIOMETER_METRICS_RETENTION_DAYS", "1")
    assert run(["doctor"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("FAIL  settings: metrics.retention_days (from HELIOMETER_METRICS_")


def test_directory_and_disk(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert [f.level for f in directory(settings(tmp_path), NOBODY)] == [WARN]
    tmp_path.chmod(0o700)
    assert [f.level for f in directory(settings(tmp_path), NOBODY)] == [OK]
    (tmp_path / "file").touch()
    assert [f.level for f in directory(settings(tmp_path / "file"), NOBODY)] == [FAIL]
    full = Settings(
        server=ServerSettings(data_dir=str(tmp_path)),
        metrics=MetricSettings(min_free_bytes=1 << 60),
    )
    assert next(disk(full, NOBODY)).level == FAIL


def test_a_clock_that_went_back(tmp_path: Path) -> None:
    path = tmp_path / "resources.sqlite"
    path.touch()
    os.utime(path, (4e9, 4e9))
    (found,) = clock(settings(tmp_path), NOBODY)
    assert found.level == FAIL
    assert "newest file" in found.message


def test_a_port_that_another_program_has(tmp_path: Path) -> None:
    import http.server
    import threading

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler
    ) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        taken = settings(tmp_path, listen=f"127.0.0.1:{other.server_address[1]}")
        seen = probe(taken)
        assert not seen.ours
        assert [f.level for f in port(taken, seen)] == [FAIL]
        other.shutdown()
        thread.join()


def test_certificates(tmp_path: Path) -> None:
    def look(certificate: str, key: str) -> tuple[str, str]:
        (found,) = tls(settings(tmp_path, tls_cert=certificate, tls_key=key), NOBODY)
        return found.level, found.message

    good, other = make(tmp_path, "good"), make(tmp_path, "other")
    assert look(*good)[0] == OK
    assert look(*make(tmp_path, "soon", 5))[0] == WARN
    assert look(*make(tmp_path, "old", -5)) == (
        FAIL,
        f"{tmp_path}/old.crt: certificate has expired",
    )
    assert look(good[0], other[1])[1].endswith("key and certificate do not match")
    assert look(good[0], str(tmp_path / "none"))[1] == (
        f"cannot read {tmp_path}/none: No such file or directory"
    )
