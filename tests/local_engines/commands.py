"""What ``up``, ``down`` and ``status`` do."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from local_engines.clickhouse import ClickHouse
from local_engines.engine import Engine, EngineError
from local_engines.folder import fail, write_configuration, write_secret
from local_engines.postgresql import PostgreSQL
from local_engines.processes import started
from local_engines.rabbitmq import RabbitMQ

ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (PostgreSQL, ClickHouse, RabbitMQ)}


def install(missing: list[Engine]) -> None:
    """Install packages with apt-get, such that nothing of them begins to serve."""
    packages = [package for engine in missing for package in engine.packages]
    if shutil.which("apt-get") is None:
        fail(f"apt-get is missing: install {', '.join(packages)} by hand")
    print(f"installing {' '.join(packages)} …", flush=True)
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        text = "#!/bin/sh\nexit 101\n"
        subprocess.run([*sudo, "tee", policy], input=text.encode(), stdout=subprocess.DEVNULL,
                       check=True)  # fmt: skip
        subprocess.run([*sudo, "chmod", "+x", policy], check=True)
    try:
        apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        subprocess.run([*apt, "update", "-qq"], check=True)
        subprocess.run([*apt, "install", "-y", "-qq", "--no-install-recommends", *packages],
                       stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    except subprocess.CalledProcessError as error:
        fail(f"{' '.join(map(str, error.cmd))}: exit status {error.returncode}")
    finally:
        if ours:
            subprocess.run([*sudo, "rm", "-f", policy], check=False)


def each_at_once(engines: list[Engine], work: Callable[[Engine], None]) -> bool:
    """Do something to all engines at the same time; return whether all went well."""
    failed: list[str] = []

    def run(engine: Engine) -> None:
        try:
            work(engine)
        except (EngineError, OSError) as error:
            failed.append(engine.name)
            print(f"{engine.name}: {error}", file=sys.stderr, flush=True)

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not failed


def up(folder: Path, every: list[Engine], engines: list[Engine], ports: dict[str, int],
       may_install: bool) -> int:  # fmt: skip
    """Start what does not run."""
    begin = time.monotonic()
    missing = [engine for engine in engines if engine.program() is None]
    if missing and may_install:
        install(missing)

    def start(engine: Engine) -> None:
        begun = engine.up()
        what = f"up after {time.monotonic() - begin:.1f} s" if begun else "is up already"
        print(f"{engine.name}: {what}", flush=True)

    write_secret(folder / "ports.json", json.dumps(ports))
    good = each_at_once(engines, start)
    running = [engine for engine in every if engine.pid() is not None]
    env = write_configuration(folder, running)
    if not running:
        return 1
    for engine in running:
        for name, url in engine.urls().items():
            print(f"{name:11} {url}")
    print(f"\n# heliometer serve --config {folder / 'heliometer.toml'}")
    print(f"# or: . {folder / 'env'}\n{env}", end="")
    return 0 if good else 1


def down(folder: Path, engines: list[Engine], wipe: bool) -> int:
    """Stop what runs; remove data when asked to."""

    def stop(engine: Engine) -> None:
        print(f"{engine.name}: {'stopped' if engine.down(wipe) else 'was not up'}", flush=True)
        if engine.pid() is not None:
            raise EngineError("still runs")
        if wipe:
            engine.wipe()

    good = each_at_once(engines, stop)
    left = [name for name in ENGINES if (folder / name).exists()]
    if wipe and not left:
        for name in ("env", "heliometer.toml", "ports.json", "password", "lock"):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    return 0 if good else 1


@dataclasses.dataclass(frozen=True)
class Row:
    """What ``status`` says of an engine."""

    engine: str
    version: str
    pid: int | None
    urls: dict[str, str]
    since: str
    health: str

    @classmethod
    def of(cls, engine: Engine) -> "Row":
        """Look at an engine."""
        pid = engine.pid()
        version, health = engine.health()
        since = "-"
        with contextlib.suppress(IndexError):  # it may end meanwhile
            if pid is not None:
                since = f"{datetime.fromtimestamp(started(pid), UTC):%Y-%m-%d %H:%M:%SZ}"
        return cls(engine.name, version, pid, engine.urls(), since, health)


def status(engines: list[Engine], as_json: bool) -> int:
    """Print what runs; return 0 when all do."""
    rows = [Row.of(engine) for engine in engines]
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        table = [("engine", "version", "pid", "URL", "since", "health")]
        for row in rows:
            first, *more = (re.sub(r":[^:@/]*@", "@", url) for url in row.urls.values())
            table.append(
                (row.engine, row.version, str(row.pid or "-"), first, row.since, row.health)
            )
            table += [("", "", "", url, "", "") for url in more]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for line in table:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
    return 0 if all(row.health == "ok" for row in rows) else 1
