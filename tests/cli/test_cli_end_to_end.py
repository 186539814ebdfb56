"""The commands against a real server, each in a process of its own, as people run them."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import RunningServer

NAB = Path(__file__).parents[3] / "shared" / "data" / "nab"
Command = Callable[..., subprocess.CompletedProcess[str]]


def heliometer(
    *arguments: str, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
    return subprocess.run(
        [sys.executable, "-m", "heliometer", *arguments],
        input=text, capture_output=True, text=True, timeout=60, env={**clean, **environment},
    )  # fmt: skip


@pytest.fixture
def command(server: RunningServer) -> Command:
    """Runs a client command as the demo user, signing in where OS_AUTH_URL says."""

    def call(*arguments: str, text: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "OS_AUTH_URL": f"{server.url}/identity",
            "OS_USERNAME": server.username,
            "OS_PASSWORD": server.password,
            "OS_PROJECT_NAME": server.project,
            **changes,
        }
        return heliometer(*arguments, text=text, **environment)

    return call


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def failed(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert result.stderr.startswith("heliometer: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"cli-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("path", ["/identity", "/identity/v3", "/identity/v2.0"])
def test_tokens_are_issued_shown_and_revoked(
    command: Command, server: RunningServer, path: str
) -> None:
    there = {"OS_AUTH_URL": server.url + path}
    issued = json.loads(done(command("token", "issue", "--json", **there)))
    assert issued["endpoint"] == f"{server.url}/v1.1"
    assert issued["user"]["name"] == issued["project"]["name"] == "demo"
    shown = json.loads(done(command("token", "show", issued["token"], **there)))
    assert shown["user"] == issued["user"]
    # The token alone is enough to work with.
    with_token = {**there, "OS_TOKEN": issued["token"], "OS_PASSWORD": "", "OS_USERNAME": ""}
    if not path.endswith("v2.0"):
        done(command("metrics", "list", **with_token))
    assert done(command("token", "revoke", "-", text=issued["token"], **there)) == ""
    assert "Could not find" in failed(command("token", "show", issued["token"], **there))
    token = {"HELIOMETER_URL": server.url, "OS_TOKEN": issued["token"]}
    assert "the token is invalid" in failed(command("metrics", "list", **token))


def test_the_url_alone_and_the_password_from_standard_input(server: RunningServer) -> None:
    arguments = ("token", "issue", "--url", server.url, "--username", "demo", "--project", "demo")
    assert len(done(heliometer(*arguments, "--password-stdin", text=f"{server.password}\n"))) > 20
    wrong = heliometer(*arguments, "--password-stdin", text="wrong")
    assert "check user, password and project" in failed(wrong)


def test_no_server() -> None:
    result = heliometer(
        "metrics", "list", "--url", "http://127.0.0.1:1", "--username", "a", "--project", "b",
        OS_PASSWORD="x",
    )  # fmt: skip
    assert failed(result) == (
        "heliometer: no server answers at http://127.0.0.1:1; "
        "start one with heliometer serve or use --url\n"
    )


def test_one_measurement_is_pushed_listed_and_queried(command: Command, namespace: str) -> None:
    odd = "a, b: \\c"
    given = ("-d", f"name={odd}", "-d", "host=web1")
    pushed = command("metrics", "push", "--namespace", namespace, *given, "--value", "3.5")
    assert done(pushed) == "pushed 1 measurement\n"
    listed = json.loads(done(command("metrics", "list", "--namespace", namespace, "--json")))
    assert listed == [{"namespace": namespace, "dimensions": {"host": "web1", "name": odd}}]
    statistics = ("--statistics", "avg,count")
    result = done(
        command("metrics", "query", namespace, "-d", f"name={odd}", *statistics, "--json")
    )
    (series,) = json.loads(result)
    assert series["dimensions"] == {"host": "web1", "name": odd}
    assert series["datapoints"]["avg"] == [3.5]
    table = done(command("metrics", "query", namespace, *statistics)).splitlines()
    assert table[0] == f'{namespace}  host=web1 name="{odd}"'
    assert table[1].split() == ["TIME", "(UTC)", "avg", "count"]
    assert table[2].split()[2:] == ["3.5", "1"]
    rows = done(command("metrics", "query", namespace, *statistics, "--csv")).splitlines()
    assert rows[0] == "host,name,timestamp,avg,count"
    assert rows[1].endswith("Z,3.5,1")


def test_a_query_without_measurements(command: Command, namespace: str) -> None:
    result = command("metrics", "query", namespace)
    assert (result.returncode, result.stdout) == (0, "")
    assert "no measurements between" in result.stderr


def test_a_list_over_several_pages(command: Command, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    now = int(time.time())
    rows = "".join(f"{now},1,h{i:04}\n" for i in range(2100))
    path.write_text("timestamp,value,host\n" + rows)
    told = done(command("metrics", "push", "--namespace", namespace, str(path)))
    assert told.startswith("pushed 2100 measurements of 2100 series in ")
    everything = command("metrics", "list", "--namespace", namespace, "--limit", "5000", "--json")
    hosts = [each["dimensions"]["host"] for each in json.loads(done(everything))]
    assert hosts == [f"h{i:04}" for i in range(2100)]
    few = command("metrics", "list", "--namespace", namespace, "--limit", "3")
    assert len(done(few).splitlines()) == 4
    assert "only the first 3 series are shown" in few.stderr


@pytest.mark.skipif(not NAB.is_dir(), reason="the real data is not here")
def test_real_files_are_shifted_pushed_and_plotted(command: Command, namespace: str) -> None:
    files = [str(path) for path in sorted(NAB.glob("*.csv"))]
    shift = ("--namespace", namespace, "--shift-to-now", "--skip-old")
    planned = done(command("metrics", "push", "--dry-run", *shift, *files)).splitlines()
    assert len(planned) == len(files)
    assert json.loads(done(command("metrics", "list", "--namespace", namespace, "--json"))) == []
    told = done(command("metrics", "push", *shift, *files))
    assert f"of {len(files)} series" in told
    window = ("--start", "15d", "--period", "86400", "--statistics", "count", "--json")
    answer = json.loads(done(command("metrics", "query", namespace, *window)))
    stored = sum(sum(series["datapoints"]["count"]) for series in answer)
    assert told.startswith(f"pushed {stored} measurements ")
    name = f"metric_name={Path(files[0]).stem}"
    plot = ("--start", "14d", "--period", "7200", "--statistics", "avg,max", "--plot")
    chart = command("metrics", "query", namespace, "-d", name, *plot, PYTHONIOENCODING="latin-1")
    text = done(chart)
    assert text.isascii()
    assert text.splitlines()[-2:] == ["** avg", "++ max"]


def test_a_file_with_a_wrong_line_is_not_sent_at_all(
    command: Command, namespace: str, tmp_path: Path
) -> None:
    now = int(time.time())
    path = tmp_path / "bad.csv"
    path.write_text(f"timestamp,value\n{now},1\n{now},none\n")
    result = command("metrics", "push", "--namespace", namespace, "--batch", "1", str(path))
    assert f"{path}:3: value 'none' is not a number; nothing was sent" in failed(result)
    assert json.loads(done(command("metrics", "list", "--namespace", namespace, "--json"))) == []


def test_json_lines_from_standard_input(command: Command, namespace: str) -> None:
    now = int(time.time())
    vector = {"namespace": namespace, "time_values": [[now - 60, 1], [now, 2.5]]}
    push = ("metrics", "push", "--format", "jsonl", "-")
    assert done(command(*push, text=json.dumps(vector))).startswith("pushed 2 measurements of 1")


def test_a_reader_may_not_push(server: RunningServer, command: Command, namespace: str) -> None:
    name = f"eve-{namespace}"
    made = server.command(
        "user", "create", name, "--project", "demo", "--role", "reader", "--password-stdin",
        text="the first word\n",
    )  # fmt: skip
    assert len(done(made).strip()) == 32
    eve = {"OS_USERNAME": name, "OS_PASSWORD": "the first word"}
    refused = command("metrics", "push", "--namespace", namespace, "--value", "1", **eve)
    assert "does not allow you to post measurements" in failed(refused)
    done(server.command("user", "grant", name, "--project", "demo", "--role", "member"))
    done(command("metrics", "push", "--namespace", namespace, "--value", "1", **eve))
    done(server.command("user", "password", name, "--password-stdin", text="the second word"))
    assert "check user" in failed(command("token", "issue", **eve))
    eve["OS_PASSWORD"] = "the second word"
    done(command("token", "issue", **eve))
    done(server.command("user", "disable", name))
    assert "check user" in failed(command("token", "issue", **eve))
    done(server.command("user", "enable", name))
    done(command("token", "issue", **eve))
    users = json.loads(done(server.command("user", "list", "--json")))
    assert {"project": "demo", "role": "member"} in next(
        user["roles"] for user in users if user["name"] == name
    )


def test_projects_while_the_server_runs(server: RunningServer, namespace: str) -> None:
    made = done(server.command("project", "create", namespace)).strip()
    assert len(made) == 32
    projects = json.loads(done(server.command("project", "list", "--json")))
    assert {"id": made, "name": namespace, "enabled": True} in projects
    assert "already" in failed(server.command("project", "create", namespace))


@pytest.mark.reliability(7)
def test_backup_while_serving_and_restore(
    server: RunningServer, command: Command, namespace: str, tmp_path: Path
) -> None:
    done(command("metrics", "push", "--namespace", namespace, "--value", "7"))
    file, target = tmp_path / "b.tar", tmp_path / "restored"
    assert done(server.command("backup", str(file))).startswith("backed up ")
    assert "exists" in failed(server.command("backup", str(file)))
    assert "a server runs on" in failed(server.command("restore", str(file), "--force"))
    done(heliometer("restore", str(file), "--data-dir", str(target)))
    second = RunningServer(target, {"HELIOMETER_COLLECTOR_ENABLED": "false"}).start()
    try:
        there = {"OS_AUTH_URL": f"{second.url}/identity"}
        (series,) = json.loads(done(command("metrics", "query", namespace, "--json", **there)))
        assert series["datapoints"]["avg"] == [7]
    finally:
        assert second.stop() == 0
    again = tmp_path / "again.tar"
    done(heliometer("backup", str(again), "--data-dir", str(target)))
    assert "is not empty" in failed(heliometer("restore", str(again), "--data-dir", str(target)))


def test_doctor_beside_the_server_and_without(server: RunningServer, tmp_path: Path) -> None:
    listen = {
        "HELIOMETER_SERVER_LISTEN": server.url.removeprefix("http://"),
        "HELIOMETER_AMQP_LISTEN": "127.0.0.1:0",
    }
    told = done(heliometer("doctor", "--data-dir", str(server.data_dir), **listen))
    assert f"ok    server: runs and answers at {server.url}" in told
    other = heliometer("doctor", "--data-dir", str(tmp_path / "var"), **listen)
    assert other.returncode == 1
    assert "has another data directory" in other.stdout


def test_openstack_variables_and_flags(command: Command, server: RunningServer) -> None:
    assert "not in region mars" in failed(command("metrics", "list", OS_REGION_NAME="mars"))
    by_id = json.loads(done(command("token", "issue", "--json")))["project"]["id"]
    done(command("metrics", "list", OS_PROJECT_NAME="", OS_PROJECT_ID=by_id))
    done(command("metrics", "list", OS_PROJECT_NAME="", OS_TENANT_NAME="demo"))
    elsewhere = {"OS_AUTH_URL": "http://127.0.0.1:1/v3"}
    done(command("metrics", "list", "--url", server.url, **elsewhere))
    assert "no server answers" in failed(command("metrics", "list", **elsewhere))
