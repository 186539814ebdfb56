"""10 000 rules on 10 000 series, one measurement a minute: processor time a minute, beside vmalert
with VictoriaMetrics (Debian: ``apt-get install victoria-metrics``)."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks import victoria
from benchmarks.alarms import _insert_alarms, _on_series
from benchmarks.bodies import NAMESPACE, Make, Rounds, dimensions, heliometer_body, victoria_body
from benchmarks.figures import Figure, Options
from benchmarks.load import drive
from benchmarks.server import Server

PROGRAM = shutil.which("vmalert")
RULES = 10_000


def run(options: Options) -> list[Figure]:
    """Seconds of processor time a minute, for taking measurements in and evaluating rules."""
    minutes = 1 if options.quick else 3
    figures = [
        Figure(f"{RULES:,} alarms, heliometer", _heliometer(options.folder, minutes),
               "CPU s/min", note="measurements and evaluation, all in one process"),
    ]  # fmt: skip
    if PROGRAM is None or victoria.PROGRAM is None:
        print("vmalert is not installed (apt-get install victoria-metrics): nothing beside it")
        return figures
    alerting, storing = _vmalert(options.folder, minutes)
    figures.append(
        Figure(f"{RULES:,} rules, vmalert and VictoriaMetrics", alerting + storing, "CPU s/min",
               note=f"vmalert {alerting:.1f}, VictoriaMetrics {storing:.1f}")
    )  # fmt: skip
    return figures


def _heliometer(folder: Path, minutes: int) -> float:
    data = folder / "heliometer"
    with Server(data) as server:
        project = server.sign_in()[1]
    _insert_alarms(data, project, [_on_series(n, f"alarm {n}") for n in range(RULES)])
    with Server(data) as server:
        token, _ = server.sign_in()
        headers = {"X-Auth-Token": token}
        _minute(server.address, heliometer_body, headers, 1)
        _next_minute()
        cpu = server.cpu_seconds
        for _ in range(minutes):
            _minute(server.address, heliometer_body, headers, 1)
            _next_minute()
        return (server.cpu_seconds - cpu) / minutes


def _vmalert(folder: Path, minutes: int) -> tuple[float, float]:
    rules = folder / "rules.yml"
    with rules.open("w") as file:
        file.write("groups:\n- name: alarms\n  interval: 1m\n  rules:\n")
        for n in range(RULES):
            pairs = ",".join(f'{k}="{v}"' for k, v in dimensions(n).items())
            expression = f"avg_over_time({NAMESPACE}{{{pairs}}}[1m]) > 5000"
            file.write(f"  - alert: alarm-{n}\n    expr: {expression}\n")
    with victoria.Victoria(folder / "victoria") as server:
        _minute(server.address, victoria_body, {}, 1000)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        with (folder / "vmalert.log").open("ab") as log:
            assert PROGRAM is not None
            alerting = subprocess.Popen(
                [
                    PROGRAM,
                    f"-rule={rules}",
                    f"-datasource.url=http://{server.address[0]}:{server.address[1]}",
                    # Nothing fires, so nobody needs to answer there.
                    "-notifier.url=http://127.0.0.1:9",
                    f"-httpListenAddr=127.0.0.1:{port}",
                    "-evaluationInterval=1m",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            _next_minute()
            if alerting.poll() is not None:
                raise RuntimeError(f"vmalert did not start: {(folder / 'vmalert.log').read_text()}")
            process = psutil.Process(alerting.pid)
            before, cpu = process.cpu_times(), server.cpu_seconds
            for _ in range(minutes):
                _minute(server.address, victoria_body, {}, 1000)
                _next_minute()
            after = process.cpu_times()
            used = after.user + after.system - before.user - before.system
            return used / minutes, (server.cpu_seconds - cpu) / minutes
        finally:
            alerting.send_signal(signal.SIGTERM)
            alerting.wait(30)


def _minute(address: tuple[str, int], make: Make, headers: dict[str, str], scale: int) -> None:
    """One measurement of every series."""
    rounds = Rounds(
        make, headers, series=RULES, batch=1000, start_s=int(time.time()) - 20, step_s=1,
        rounds=1, connections=1, stamp_scale=scale,
    )  # fmt: skip
    drive(address, 1, rounds).require(204)


def _next_minute() -> None:
    """Until shortly after the next evaluation."""
    time.sleep(60 - (time.time() - 30) % 60)
