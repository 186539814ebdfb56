"""What ``heliometer serve`` ends with when it cannot start."""

import re
import socket
from pathlib import Path

import pytest

from heliometer.cli import run

PACKAGING = Path(__file__).parents[3] / "packaging"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOMETER_SERVER_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("HELIOMETER_SERVER_LISTEN", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HELIOMETER_SERVER_LISTEN", "nonsense"),
        ("HELIOMETER_SERVER_NONSENSE", "1"),
        ("HELIOMETER_RESOURCES_URL_FILE", "/nowhere/at/all"),
        ("HELIOMETER_BUS_URL", "amqp://127.0.0.1:1"),
    ],
)
def test_a_wrong_setting_is_no_reason_to_start_again(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    status = run(["serve"])
    assert capsys.readouterr().err.startswith("heliometer: ")
    for unit in PACKAGING.glob("*.service"):
        assert re.findall(r"^RestartPreventExitStatus=(.*)$", unit.read_text(), re.MULTILINE) == [
            str(status)
        ]


def test_an_address_that_is_taken_may_be_free_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run(["serve", "--listen", f"127.0.0.1:{port}"]) == 1
    assert "cannot listen" in capsys.readouterr().err


def test_an_engine_that_does_not_answer_may_answer_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HELIOMETER_RESOURCES_URL", "postgresql://u:secret@127.0.0.1:1/db")
    assert run(["serve"]) == 1
    said = capsys.readouterr().err
    assert "127.0.0.1:1" in said
    assert "secret" not in said
