"""``heliometer alarms`` against a real server, and on files without one."""

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from conftest import RunningServer
from eventually import eventually
from heliometer.cli import cli, run
from heliometer.cli.explanation import event, text

NAB = Path(__file__).parents[3] / "shared" / "data" / "nab"


class Commands:
    """Runs commands in this process, as the demo user."""

    def __init__(self, server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
        self._server = server
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of ``heliometer alarms …``, or of another group when the
        first argument names one."""
        group = () if arguments[0] in ("metrics", "notifications") else ("alarms",)
        there = ("--url", self._server.url, "--username", "demo", "--project", "demo")
        code = run([*group, *arguments, *there])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def done(self, *arguments: str) -> str:
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return out

    def failed(self, *arguments: str) -> str:
        code, out, err = self.run(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith("heliometer: ")
        return err


@pytest.fixture
def alarms(
    server: RunningServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Commands:
    monkeypatch.setenv("OS_PASSWORD", server.password)
    return Commands(server, capsys)


@pytest.fixture
def name() -> str:
    """A name, and a namespace, that no other test uses."""
    return f"cli-{uuid.uuid4().hex[:12]}"


def test_an_alarm_from_its_creation_to_its_end(alarms: Commands, name: str) -> None:
    method = {"name": f"Joe {name}", "type": "EMAIL", "address": "joe@mail.com"}
    joe = alarms.done("notifications", "methods", "create", *method.values()).strip()
    made = alarms.done(
        "create", name, f"max({name}{{host=a}}) > 90", "--action", method["name"],
        "--severity", "high", "--description", "be quick",
    )  # fmt: skip
    alarm_id = made.strip()
    assert re.fullmatch(r"[0-9a-f-]{36}\n", made)
    shown = json.loads(alarms.done("show", name))
    assert shown == json.loads(alarms.done("show", alarm_id))
    assert (shown["severity"], shown["description"]) == ("high", "be quick")
    assert shown["alarm_actions"] == [joe]

    heading, row = alarms.done("list", "--name", name).splitlines()
    assert heading.split() == [
        "ID", "STATE", "SINCE", "(UTC)", "SEVERITY", "ON", "NAME", "EXPRESSION",
    ]  # fmt: skip
    assert row.startswith(f"{alarm_id}  UNDETERMINED  20")
    assert row.endswith(f"Z  high      yes  {name}  max({name}{{host=a}}) > 90")
    assert alarms.run("list", "--name", name, "--state", "ok")[1:] == (
        "", "no matching alarms\n",
    )  # fmt: skip
    assert json.loads(alarms.done("list", "--name", name, "--severity", "low", "--json")) == []

    alarms.done("metrics", "push", "--namespace", name, "-d", "host=a", "--value", "95")
    eventually(lambda: json.loads(alarms.done("history", name, "--json")))
    told = alarms.done("history", name)
    assert "UNDETERMINED -> ALARM  at once\n" in told
    assert f"    max({name}{{host=a}}) > 90\n" in told
    assert "max 95\n    so > 90 is true\n      95  host=a\n" in told
    assert "    withheld to joe@mail.com (EMAIL): the address is not verified\n" in told
    assert re.search(rf"ALARM  at once  {name}$", alarms.done("history"), re.M), "with its name"
    why = alarms.done("explain", name)
    assert why.startswith(f"{name} is ALARM since 20")
    assert "last measurement: 95 at 20" in why
    assert "1 series matches\n    host=a\n" in why
    assert why.endswith(f"Last change:\n{told}")

    alarms.done("update", name, "--name", f"{name}!", "--disable", "--action", "")
    assert "nothing watches it" in alarms.failed("explain", f"{name}!")
    changed = json.loads(alarms.done("update", f"{name}!", "--ok-action", joe, "--json"))
    assert (changed["enabled"], changed["alarm_actions"], changed["ok_actions"]) == (
        False, [], [joe],
    )  # fmt: skip
    assert changed["severity"] == "high"
    assert alarms.run("update", alarm_id)[0] == 2
    assert alarms.done("delete", alarm_id) == ""
    assert alarms.failed("show", name) == f"heliometer: there is no alarm '{name}'\n"


def test_a_name_of_several_alarms_needs_the_id(alarms: Commands, name: str) -> None:
    ids = [alarms.done("create", name, f"{name} > {i}").strip() for i in range(2)]
    refused = alarms.failed("delete", name)
    assert "2 are named" in refused
    assert all(alarm_id in refused for alarm_id in ids)
    for alarm_id in ids:
        alarms.done("delete", alarm_id)


@pytest.mark.parametrize("command", ["create", "test", "file"])
def test_a_wrong_expression_is_shown_with_the_place_below_it(
    alarms: Commands, name: str, tmp_path: Path, command: str
) -> None:
    wrong = "avg(cpu, 90) > 1"
    file = tmp_path / "a.csv"
    file.write_text("timestamp,value\n2014-01-01,1\n")
    arguments = {
        "create": ("create", name, wrong),
        "test": ("test", wrong),
        "file": ("test", wrong, "--file", str(file)),
    }[command]
    message, *place = alarms.failed(*arguments).splitlines()
    assert message.startswith("heliometer: expression: character 10: a period is a multiple of 60")
    assert place == ["  avg(cpu, 90) > 1", "           ^"]


def test_an_expression_is_tried_on_what_is_stored(
    alarms: Commands, name: str, tmp_path: Path
) -> None:
    begin = int(time.time()) // 60 * 60 - 3600
    rows = [f"{begin + s},{v}" for s, v in ((30, 1), (90, 5), (150, 1), (210, 1))]
    (tmp_path / "a.csv").write_text("\n".join(["timestamp,value", *rows]))
    alarms.done("metrics", "push", "--namespace", name, str(tmp_path / "a.csv"))
    window = ("--since", str(begin), "--until", str(begin + 240))
    first, second, third, summary = alarms.done("test", f"avg({name}) > 2", *window).splitlines()
    assert "UNDETERMINED -> OK        avg 1 > 2" in first
    assert "OK -> ALARM               avg 5 > 2" in second
    assert "ALARM -> OK               avg 1 > 2" in third
    assert summary.startswith("1 alarm from 20")
    assert summary.endswith("in alarm for 1 min (25.00%)")
    document = json.loads(alarms.done("test", f"avg({name}) > 2", *window, "--json"))
    assert document["values"] == [[None, 1.0, 5.0, 1.0, 1.0]]
    nothing = alarms.done("test", "cli-none > 2", *window, "--plot")
    assert "cli-none > 2: no measurements" in nothing
    assert "is there any such metric in that time?" in nothing
    assert "kept for 45 days" in alarms.failed("test", f"{name} > 1", "--since", "46d")


# -- on files, without a server -------------------------------------------------------------------


def offline(*arguments: str, **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(cli, ["alarms", "test", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_a_file_of_any_age_is_the_one_metric_of_the_expression(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    rows = [f"2014-01-01T00:{minute:02}:30Z,x,{9 if minute == 5 else 1}" for minute in range(10)]
    path.write_text("\n".join(["at,host,reading", *rows]))
    columns = ("--timestamp-column", "at", "--value-column", "reading")
    document: dict[str, Any] = json.loads(
        offline("max(old{host=x}) > 5", "--file", str(path), *columns, "--json").stdout
    )
    assert document["alarms"] == 1
    assert document["spans"] == [
        {"start": "2014-01-01T00:05:30.000Z", "end": "2014-01-01T00:07:00.000Z"}
    ]
    assert document["seconds"] == {"UNDETERMINED": 30.0, "OK": 480.0, "ALARM": 90.0}


@pytest.mark.parametrize(("content", "expression", "message"), [
    ("timestamp,value\n", "a > 1", "has no measurements"),
    ("timestamp,value\n2014-01-01,x\n", "a > 1", "line 2: value 'x' is not a number"),
    ("timestamp,value\n2014-01-01,1\n", "a > 1 or b > 1", "must be about one metric"),
])  # fmt: skip
def test_a_file_that_cannot_be_tried_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, expression: str, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert run(["alarms", "test", expression, "--file", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not NAB.is_dir(), reason="the real data is not here")
def test_real_measurements_are_drawn_with_the_threshold_and_the_alarms() -> None:
    path = str(NAB / "ec2_cpu_utilization_5f5533.csv")
    expression = "avg(ec2, 300) > 60"
    lines = offline(expression, "--file", path, "--plot", COLUMNS="90").stdout.splitlines()
    assert lines[0] == expression
    assert "++ threshold" in lines
    (bar,) = [line for line in lines if line.endswith("  in alarm")]
    plot = lines[1 : lines.index(bar)]
    spikes = [i for i, mark in enumerate(plot[2]) if mark not in " │"]
    marks = [i for i, mark in enumerate(bar.removesuffix("  in alarm")) if mark != " "]
    assert spikes
    assert marks
    assert all(any(abs(spike - mark) <= 1 for mark in marks) for spike in spikes)
    assert lines[-1].startswith("2 alarms from 2014-02-14 14:27:00Z to 2014-02-28 14:23:00Z")


# -- words ----------------------------------------------------------------------------------------


def test_an_explanation_of_many_series_and_of_unknown_is_short() -> None:
    words = text({
        "name": "n", "state": "ALARM", "flapping": True, "state_since": "2026-01-01T00:00:00.000Z",
        "expression": "ns > 1", "minute": "2026-01-01T00:05:00.000Z", "truth": None,
        "unknown_evaluations": 3, "undetermined_after": 4, "last_transition": None,
        "subexpressions": [{
            "subexpression": "ns > 1", "truth": None, "function": "max", "operator": ">",
            "threshold": 1.0, "matching_series": 250, "last_measurement": None,
            "windows": [{"start": "2026-01-01T00:04:00.000Z", "end": "2026-01-01T00:05:00.000Z",
                         "value": None}],
            "series": [{"n": str(i)} for i in range(100)],
        }],
    })  # fmt: skip
    assert "n is ALARM since 2026-01-01 00:00:00Z (flapping)" in words
    assert "Unknown for 3 evaluations; after 4 the alarm becomes UNDETERMINED" in words
    assert "00:04:00Z to 00:05:00Z: max no measurement" in words
    assert words.endswith("    n=9\n    and 240 more")


def test_a_change_without_dimensions_or_reason_is_told() -> None:
    entry = {
        "at": "2026-01-01T00:00:00.000Z", "old_state": "OK", "new_state": "ALARM",
        "flapping": False, "at_once": False, "reason": [],
        "notifications": [{"status": "delivered", "address": "a@b.c", "type": "EMAIL",
                           "reason": ""}],
    }  # fmt: skip
    assert event(entry, "n") == (
        "2026-01-01 00:00:00Z  OK -> ALARM  n\n    delivered to a@b.c (EMAIL)"
    )
