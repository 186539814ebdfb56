"""How long the service takes to start, how much memory and disk it takes to do nothing."""

import contextlib
import random
import shutil
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

from benchmarks.bodies import Rounds, heliometer_body
from benchmarks.figures import Figure, Options
from benchmarks.load import drive
from benchmarks.server import Server

ROOT = Path(__file__).resolve().parents[1]
SERIES = 10_000
DAYS = 7
IDLE_S = 10


def run(options: Options) -> list[Figure]:
    """Figures of a service that is started, left alone, and killed."""
    return [*_idle(options), *_with_much_stored(options), *_installed(options)]


def _idle(options: Options) -> list[Figure]:
    with Server(options.folder / "fresh") as server:
        first = server.seconds_to_ready
        time.sleep(1 if options.quick else IDLE_S)
        memory = server.memory_bytes / 1e6
    with Server(options.folder / "fresh") as server:
        again = server.seconds_to_ready
    return [
        Figure("first start to ready", first, "s"),
        Figure("start to ready, empty", again, "s", at_most=2),
        Figure("idle memory of a fresh server", memory, "MB", at_most=200),
    ]


def _with_much_stored(options: Options) -> list[Figure]:
    data = options.folder / "much"
    with Server(data) as server:
        _, project = server.sign_in()
    days = 1 if options.quick else DAYS
    command = [sys.executable, "-m", "benchmarks.stored", str(data), "--project", project]
    stored = int(subprocess.check_output([*command, "--days", str(days)], text=True))
    ready = []
    for _ in range(3):
        with Server(data) as server:
            ready.append(server.seconds_to_ready)
    with Server(data) as server:
        time.sleep(1 if options.quick else IDLE_S)
        memory = server.memory_bytes / 1e6
    millions = round(stored / 1e6)
    figures = [
        Figure(f"start to ready, {millions} M stored", sorted(ready)[1], "s", at_most=2),
        Figure(f"idle memory, {millions} M stored", memory, "MB"),
    ]

    # Killed under load, with a day's worth of posts in the log that must be read again.
    reopened = []
    for _ in range(1 if options.quick else 3):
        server = Server(data).__enter__()
        requests = Rounds(
            heliometer_body,
            {"X-Auth-Token": server.sign_in()[0]},
            series=SERIES,
            batch=1000,
            start_s=int(time.time()) - 600,
            step_s=1,
        )
        killer = threading.Timer(random.uniform(2, 4), server.kill)
        killer.start()
        with contextlib.suppress(ConnectionError):
            drive(server.address, 4, requests)
        killer.join()
        with Server(data) as again:
            reopened.append(again.seconds_to_ready)
    figures.append(
        Figure("ready again after kill -9 under load, worst", max(reopened), "s", at_most=3)
    )
    return figures


def _installed(options: Options) -> list[Figure]:
    """What ``make install`` puts into site-packages."""
    folder = options.folder / "venv"
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    command += ["--require-hashes", "-r", "requirements.lock"]
    if subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.DEVNULL).returncode:
        print("the packages cannot be installed here: size of the installation left out")
        return []
    (packages,) = folder.glob("lib/python*/site-packages")
    whole = _mebibytes(packages)
    for tool in packages.glob("*"):
        if tool.name.split("-")[0] in ("pip", "setuptools", "_distutils_hack", "pkg_resources"):
            shutil.rmtree(tool)
    own = _mebibytes(ROOT / "src" / "heliometer")
    return [
        Figure("site-packages with pip", whole + own, "MiB"),
        Figure("site-packages", _mebibytes(packages) + own, "MiB", at_most=150),
    ]


def _mebibytes(folder: Path) -> float:
    """As ``du -m`` counts."""
    files = (f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return sum(f.stat().st_size for f in files) / (1 << 20)
