"""What engines keep in their folder: ports, password, lock, and the ready configuration."""

import contextlib
import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from local_engines.engine import Engine

# Below the range that the kernel picks ports of clients from (32768 and up): a port stays free
# while its engine is down.
PORTS = {
    "postgresql": 15432,
    "clickhouse": 18123,
    "clickhouse-native": 19000,
    "rabbitmq": 15673,
    "management": 15674,
    "rabbitmq-distribution": 15675,
    "epmd": 14369,
}


def fail(why: str) -> NoReturn:
    """End with one line that says why."""
    print(f"engines: {why}", file=sys.stderr)
    sys.exit(1)


def choose_ports(folder: Path) -> dict[str, int]:
    """Ports by the environment, else those of the last ``up`` in this folder, else the usual."""
    kept = folder / "ports.json"
    ports = dict(PORTS)
    with contextlib.suppress(OSError, ValueError):
        ports |= json.loads(kept.read_text())
    text = os.environ.get("HELIOMETER_ENGINES_PORTS", "")
    for number, item in enumerate(re.split(r"[\s,]+", text.strip()) if text.strip() else []):
        if item.isdigit() and number == 0:
            ports = {name: int(item) + index for index, name in enumerate(PORTS)}
            continue
        name, equals, value = item.partition("=")
        if name not in PORTS or not equals or not value.isdigit() or not 0 < int(value) < 65536:
            fail(f"HELIOMETER_ENGINES_PORTS: {item!r} is none of {', '.join(PORTS)}=PORT")
        ports[name] = int(value)
    return ports


def write_secret(path: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One command at a time in a folder. Two that start at once do not get in each other's way."""
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had it may have removed it with the data.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                yield
                return


def write_configuration(folder: Path, engines: list[Engine]) -> str:
    """Write ``env`` and ``heliometer.toml`` for the engines that run; return the former."""
    sections: dict[str, list[tuple[str, str]]] = {}
    lines = []
    for engine in engines:
        for section, key, value in engine.settings():
            sections.setdefault(section, []).append((key, value))
            lines.append(f"export HELIOMETER_{section.upper()}_{key.upper()}='{value}'")
    env = "\n".join(lines) + "\n"
    toml = "# heliometer serve --config with this file uses the engines of scripts/engines.\n"
    for section, pairs in sections.items():
        toml += f"\n[{section}]\n" + "".join(f'{key} = "{value}"\n' for key, value in pairs)
    write_secret(folder / "env", env)
    write_secret(folder / "heliometer.toml", toml)
    return env
