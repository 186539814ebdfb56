"""Alarms: the engine alone, ingest beside it, and from a measurement to the mail."""

import json
import re
import sqlite3
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.bodies import NAMESPACE, Rounds, dimensions, heliometer_body
from benchmarks.figures import Figure, Options
from benchmarks.load import drive
from benchmarks.mail import MailSink
from benchmarks.server import Client, Server, request
from heliometer.alarms.expression import Metric, Subexpression, normal_form
from heliometer.alarms.model import Alarm
from heliometer.storage.sql.alarm_rows import alarm_row

BATCH = 1000
CONNECTIONS = 4
GRACE_S = 1


def run(options: Options) -> list[Figure]:
    """All of them."""
    return [*_engine(options), *_beside_ingest(options), *_to_the_mail(options)]


def _engine(options: Options) -> list[Figure]:
    figures = []
    for number in (10_000, 30_000) if options.quick else (10_000, 100_000, 300_000):
        said = subprocess.run(
            [sys.executable, "-m", "benchmarks.alarm_engine", str(number)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = json.loads(said.stdout)
        judged = number == 100_000
        figures += [
            Figure(
                f"evaluating {number:,} alarms", found["evaluate_s"] * 1000, "ms",
                at_most=2000 if judged else None,
                note=f"{found['evaluate_worst_s']:.2f} s when every alarm changes; taking a "
                f"measurement of each {found['take_s'] * 1000:.0f} ms",
            ),
            Figure(
                f"memory of the engine with {number:,} alarms", found["memory_mb"], "MB",
                at_most=1500 if judged else None,
            ),
        ]  # fmt: skip
    return figures


def _beside_ingest(options: Options) -> list[Figure]:
    """The same posts to a server without alarms, and with one on each series."""
    series = 10_000 if options.quick else 100_000
    seconds = 3.0 if options.quick else 15.0
    data = options.folder / "ingest"
    with Server(data) as server:
        project = server.sign_in()[1]
        without = _ingest(server, series, seconds)
    _insert_alarms(data, project, [_on_series(n, f"avg > {n}") for n in range(series)])
    with Server(data) as server:
        ready = server.seconds_to_ready
        with_alarms = _ingest(server, series, seconds)
        memory = server.memory_bytes / 1e6
        time.sleep(max(0, 62 - time.time() % 60) + 6)  # an evaluation of everything
        evaluation = _figure(server, "evaluation_duration_seconds")
        watched = _figure(server, "alarms")
    assert watched == series
    return [
        Figure(f"aggregate posts, {series:,} series", without, "points/s"),
        Figure(f"the same with {series:,} alarms", with_alarms, "points/s"),
        Figure("ingest with alarms against without", with_alarms / without, "×", at_least=0.8),
        Figure(f"start to ready with {series:,} alarms", ready, "s"),
        Figure(f"memory of the server with {series:,} alarms", memory, "MB", at_most=1500),
        Figure(f"an evaluation of {series:,} alarms in the server", evaluation * 1000, "ms",
               at_most=2000),
    ]  # fmt: skip


def _to_the_mail(options: Options) -> list[Figure]:
    """From the post that trips alarms to the mail server's acceptance."""
    number = 100 if options.quick else 1000
    data = options.folder / "mail"
    with MailSink() as sink:
        settings = {
            "HELIOMETER_EMAIL_URL": f"smtp://127.0.0.1:{sink.port}",
            "HELIOMETER_EMAIL_STARTTLS": "never",
            "HELIOMETER_NOTIFY_PER_ADDRESS_PER_HOUR": "1000000",
            "HELIOMETER_ALARMS_GRACE": str(GRACE_S),
        }
        with Server(data, settings) as server:
            token, project = server.sign_in()
            method = _method(server, sink, token)
        alarms = [_on_series(n, f"at once {n}", "max") for n in range(number)]
        alarms += [_on_series(number + n, f"on the minute {n}", "avg") for n in range(5)]
        _insert_alarms(data, project, alarms, method)
        with Server(data, settings) as server:
            token, _ = server.sign_in()
            started = time.time()
            _post(server, token, range(number))
            sink.wait_for(number, 60)
            storm = [at - started for at, _ in sink.taken]
            time.sleep(max(0, 5 - time.time() % 60))  # not into the end of a minute
            _post(server, token, range(number, number + 5))
            due = (time.time() // 60 + 1) * 60 + GRACE_S
            sink.wait_for(number + 5, 90)
            beyond = sorted(at - due for at, _ in sink.taken[number:])
    return [
        Figure(
            f"{number:,} alarms at once: the last mail is taken after", max(storm), "s",
            at_most=10, note=f"half of them after {np.median(storm):.2f} s",
        ),
        Figure(
            "alarms of the minute: mail taken after the grace, p50", float(np.median(beyond)), "s",
            at_most=2,
        ),
    ]  # fmt: skip


def _ingest(server: Server, series: int, seconds: float) -> float:
    token, _ = server.sign_in()
    headers = {"X-Auth-Token": token}

    def rounds(number: int | None) -> Rounds:
        return Rounds(
            heliometer_body, headers, series=series, batch=BATCH,
            start_s=int(time.time()) - 600, step_s=1, rounds=number, connections=CONNECTIONS,
        )  # fmt: skip

    drive(server.address, 1, rounds(1)).require(204)
    outcome = drive(server.address, CONNECTIONS, rounds(None), seconds)
    outcome.require(204)
    return outcome.requests * BATCH / outcome.seconds


def _on_series(number: int, name: str, function: str = "avg") -> tuple[str, Subexpression]:
    metric = Metric(NAMESPACE, tuple(sorted(dimensions(number).items())))
    assert function in ("avg", "max")
    return name, Subexpression(metric, ">", 5000.0, "avg" if function == "avg" else "max")


def _insert_alarms(
    data: Path, project: str, alarms: Sequence[tuple[str, Subexpression]], method: str = ""
) -> None:
    """Put alarms straight into the database of a server that does not run: over HTTP a hundred
    thousand would take minutes."""
    now = int(time.time() * 1000)
    rows, actions = [], []
    for name, part in alarms:
        alarm = Alarm(str(uuid.uuid4()), project, name, str(part), normal_form(part), now, now)
        rows.append(alarm_row(alarm))
        if method:
            actions.append((alarm.id, "ALARM", 0, method))
    columns = list(rows[0])
    with closing(sqlite3.connect(data / "resources.sqlite")) as connection, connection:
        marks = ", ".join("?" * len(columns))
        connection.executemany(
            f"INSERT INTO alarms ({', '.join(columns)}) VALUES ({marks})",
            [tuple(row.values()) for row in rows],
        )
        connection.executemany(
            "INSERT INTO alarm_actions (alarm_id, state, position, method_id) VALUES (?, ?, ?, ?)",
            actions,
        )


def _method(server: Server, sink: MailSink, token: str) -> str:
    """A method whose address is verified: by the code that comes by mail."""
    headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
    fields = {"name": "Joe", "type": "EMAIL", "address": "joe@mail.com"}

    def post(path: str, document: object) -> bytes:
        with Client(server.address) as client:
            answer = client.send(request("POST", path, json.dumps(document).encode(), headers))
        assert answer.status in (201, 204), answer
        return answer.body

    made = json.loads(post("/v1.1/notification-methods", {"notification_method": fields}))
    post("/v1.1/notification-addresses", {"notification_address": fields})
    sink.wait_for(1, 20)
    code = re.search(rb"^    (\d{10})\r$", sink.taken.pop()[1], re.M)
    assert code
    post("/v1.1/notification-addresses/validate", {"validation_code": code[1].decode()})
    return str(made["notification_method"]["id"])


def _post(server: Server, token: str, numbers: range) -> None:
    metrics = [
        {"namespace": NAMESPACE, "dimensions": dimensions(n), "value": 9000} for n in numbers
    ]
    headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
    body = json.dumps(metrics).encode()
    with Client(server.address) as client:
        answer = client.send(request("POST", "/v1.1/metrics/aggregate", body, headers))
    assert answer.status == 204, answer


def _figure(server: Server, name: str) -> float:
    host, port = server.address
    with urllib.request.urlopen(f"http://{host}:{port}/metrics") as answer:
        found = re.search(rf"^heliometer_{name} (\S+)$".encode(), answer.read(), re.M)
    assert found, name
    return float(found[1])
