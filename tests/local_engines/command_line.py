"""Start and stop PostgreSQL, ClickHouse and RabbitMQ for development and tests.

They are real ones from the distribution's packages, as processes of their own on loopback, with
their own ports and data; what the system runs itself is never touched. The state is what runs: a
process is found by its command line, which names the folder, so that nothing gets out of step.
"""

import argparse
import os
import secrets
from pathlib import Path

from local_engines.commands import ENGINES, down, status, up
from local_engines.folder import PORTS, choose_ports, fail, lock, write_secret
from local_engines.rabbitmq import RabbitMQ

CHECKOUT = Path(__file__).resolve().parents[2]
HELP = f"""
engines are postgresql, clickhouse and rabbitmq; all of them unless named.

environment:
  HELIOMETER_ENGINES_DIR    data, logs and pids; default: .engines in the checkout
  HELIOMETER_ENGINES_PORTS  a number: consecutive ports from there on; or name=port pairs,
                            separated by spaces or commas, for some of
                            {", ".join(f"{k}={v}" for k, v in list(PORTS.items())[:4])},
                            {", ".join(f"{k}={v}" for k, v in list(PORTS.items())[4:])}
"""


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(
        prog="scripts/engines", description=__doc__, epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("up", "start them, and wait until they answer; repairs what crashed"),
        ("down", "stop what up started"),
        ("status", "show what runs; exit status 0 when all do"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("engines", nargs="*", metavar="ENGINE", help=", ".join(ENGINES))
        if name == "up":
            command.add_argument("--install", action="store_true", help="with apt-get if missing")
        elif name == "down":
            command.add_argument("--wipe", action="store_true", help="remove data and logs too")
        else:
            command.add_argument("--json", action="store_true", help="for programs")
    control = commands.add_parser("rabbitmqctl", help="run rabbitmqctl against the node")
    control.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    names = getattr(options, "engines", []) or list(ENGINES)
    for name in names:
        if name not in ENGINES:
            fail(f"{name!r} is none of {', '.join(ENGINES)}")
    # Postgres' and others' programs are not in everybody's path.
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    chosen = os.environ.get("HELIOMETER_ENGINES_DIR") or CHECKOUT / ".engines"
    folder = Path(chosen).absolute()
    if options.command != "up" and not folder.exists():
        if options.command == "down":
            return 0
        fail(f"nothing in {folder}: scripts/engines up makes it")
    with lock(folder):
        ports = choose_ports(folder)
        secret = folder / "password"
        if not secret.exists():
            write_secret(secret, secrets.token_hex(16))
        password = secret.read_text()
        every = [kind(folder, ports, password) for kind in ENGINES.values()]
        engines = [engine for engine in every if engine.name in names]
        if options.command == "up":
            return up(folder, every, engines, ports, options.install)
        if options.command == "down":
            return down(folder, engines, options.wipe)
        if options.command == "status":
            return status(engines, options.json)
    broker = RabbitMQ(folder, ports, password)
    return broker.control(options.arguments)
