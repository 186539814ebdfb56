"""A channel is a folder and a line: with them alone it has its form, its command, its validation,
its codes and its line of the doctor, in a server as anybody runs it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import heliometer
import pager_channel
from conftest import RunningServer
from console.visitor import Visitor
from eventually import eventually
from heliometer.cli import run
from heliometer.notifications.channels import CHANNELS, every_channel

SOURCES = Path(heliometer.__file__).parent
METHODS = "/v1.1/notification-methods"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that knows the channel."""
    running = RunningServer(
        tmp_path_factory.mktemp("pager") / "var",
        {
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            "PYTHONPATH": str(Path(pager_channel.__file__).parents[1]),
        },
        program=("-m", "pager_channel"),
    ).start()
    if running.clustered:
        running.stop()
        pytest.skip("the processes of a cluster are started without the channel")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as connected:
        yield connected


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line, in this process too."""
    monkeypatch.setitem(CHANNELS, *pager_channel.LINE)


def beeps(server: RunningServer) -> list[str]:
    """What was sent, the number first."""
    file = server.data_dir / "beeps"
    return file.read_text().splitlines() if file.exists() else []


def test_the_console_has_its_form(server: RunningServer) -> None:
    with Visitor(server.url) as visitor:
        assert visitor.sign_in("demo", server.password).status_code == 303
        page = visitor.get("/console/notifications").text
        assert page.count('<option value="PAGER"') == 2  # of a method, and of an address
        assert "PAGER: a number that beeps" in page
        assert page.count("PAGER: pager number, such as 4711. Only digits.") == 2
        assert "E-mail, SMS and pager are only sent to confirmed addresses." in page
        wrong = visitor.send("/console/notifications/methods", name="n", type="PAGER", address="x")
        assert wrong.status_code == 422
        assert "is not a pager number" in wrong.text
        made = visitor.send("/console/notifications/methods", name="n", type="PAGER", address="1")
        assert made.status_code == 303
        assert "a code sent to 1" in visitor.get("/console/notifications").text


def test_the_api_checks_it(client: httpx.Client) -> None:
    def create(type_: str, address: str, version: str = "v1.1") -> httpx.Response:
        method = {"name": "n", "type": type_, "address": address}
        path = f"/{version}/notification-methods"
        return client.post(path, json={"notification_method": method})

    made = create("PAGER", "2")
    assert made.status_code == 201
    assert made.json()["notification_method"]["type"] == "PAGER"
    assert "not a pager number" in create("PAGER", "two").text
    assert "must have 1 to 8 characters" in create("PAGER", "1" * 9).text
    assert "allowed are EMAIL, SMS, WEBHOOK, APPRISE, PAGER" in create("TELEX", "2").text
    # v1.0 has the types of its document, and shows no others.
    assert create("PAGER", "2", "v1.0").status_code == 400
    shown = client.get("/v1.0/notification-methods").json()["notification_methods"]
    assert "PAGER" not in {method["type"] for method in shown}


def test_the_command_line_creates_confirms_and_tests_it(
    server: RunningServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_PASSWORD", server.password)
    there = ["--url", server.url, "--username", "demo", "--project", "demo"]

    def done(*arguments: str) -> str:
        assert run(["notifications", *arguments, *there]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    done("methods", "create", "Ann", "PAGER", "4711")
    done("addresses", "create", "PAGER", "4711")
    # Until it is confirmed, nothing but the code is sent.
    assert run(["notifications", "methods", "test", "Ann", *there]) == 1
    assert "withheld" in capsys.readouterr().err
    done("addresses", "verify", code_sent(server, "4711"))
    assert "delivered to 4711: it beeped" in done("methods", "test", "Ann")
    assert beeps(server)[-1] == "4711 Test of notification method Ann: it works."
    assert run(["notifications", "methods", "create", "Bo", "TELEX", "1", *there]) == 2
    assert "'PAGER'" in capsys.readouterr().err


def code_sent(server: RunningServer, number: str) -> str:
    """The code that reaches a number."""
    codes = re.compile(rf"{number} .* (\d{{10}})")
    return eventually(
        lambda: next((found[1] for line in beeps(server) if (found := codes.fullmatch(line))), ""),
        why=lambda: f"no code for {number}: {server.log()[-2000:]}",
    )


def test_the_command_s_help_tells_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ("methods", "addresses"):
        assert run(["notifications", group, "create", "--help"]) == 0
        assert re.search(
            r"PAGER +Pager number, such as 4711\. Only digits\.", capsys.readouterr().out
        )


def test_the_doctor_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor", "--data-dir", str(tmp_path / "var"), "--json"])
    findings = {each["check"]: each for each in json.loads(capsys.readouterr().out)}
    assert (findings["pager"]["level"], findings["pager"]["message"]) == ("ok", "beeps")


def test_a_channel_is_named_in_its_folder_and_the_map_only() -> None:
    """Counted for the one channel that no API document and no heartbeat names."""
    naming = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(r"\"APPRISE\"|AppriseChannel", path.read_text())
    }
    folder = "notifications/channels"
    assert naming == {f"{folder}/__init__.py", f"{folder}/apprise/__init__.py"}


def test_every_channel_has_its_page() -> None:
    for channel in every_channel():
        page, _, heading = channel.docs.partition("#")
        text = (SOURCES.parents[1] / page).read_text()
        assert not heading or re.search(rf"^#+ {heading}$", text, re.MULTILINE | re.IGNORECASE)
        assert channel.title == "pager" or f"`{channel.type}`" in text or heading == "webhooks"
