"""``heliometer collect``: the agent, which reports this machine or its virtual machines."""

from pathlib import Path

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options

MIB = 1 << 20


@click.command(epilog=ENVIRONMENT, short_help="Report this machine, or its virtual machines.")
@client_options
@click.option(
    "--collector",
    "collectors",
    type=click.Choice(["host", "libvirt"]),
    multiple=True,
    default=("host",),
    show_default=True,
    help="What is read; repeat for more.",
)
@click.option(
    "--libvirt-uri",
    metavar="URI",
    default="qemu:///system",
    show_default=True,
    help="The hypervisor that collector libvirt reads.",
)
@click.option(
    "--owners",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file that says which project owns which virtual machine, where OpenStack Nova does "
    "not.",
)
@click.option(
    "--interval",
    type=click.IntRange(1, 86_400),
    metavar="SECONDS",
    help="Seconds between rounds.  [default: as each project's monitoring level says, 300 or 60]",
)
@click.option(
    "--spool",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where reports wait while the server is away.  [default: $STATE_DIRECTORY/spool, else "
    "~/.local/state/heliometer/spool]",
)
@click.option(
    "--spool-bytes",
    type=click.IntRange(MIB),
    default=256 * MIB,
    show_default=True,
    metavar="BYTES",
    help="How much may wait; the oldest gives way.",
)
@click.option(
    "--spread",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Begin at a random moment within so many seconds, so that many machines that start "
    "together do not report together.",
)
@click.option(
    "--dry-run", is_flag=True, help="Read twice, print what would be reported, and send nothing."
)
def collect(
    access: Access,
    collectors: tuple[str, ...],
    libvirt_uri: str,
    owners: Path | None,
    interval: int | None,
    spool: Path | None,
    spool_bytes: int,
    spread: float,
    dry_run: bool,
) -> int:
    """Read this machine, or the virtual machines of its hypervisor, and report to a server.

    The user must have the role agent. What was read is written to the spool before it is sent,
    and replayed when the server comes back: within two weeks nothing is lost. Runs until SIGTERM
    or Ctrl-C. Collector libvirt needs: pip install heliometer[libvirt]

    \b
    Examples:
      heliometer collect --dry-run
      heliometer collect --url https://monitoring.example.org --username agent --project infra
      heliometer collect --collector libvirt --owners /etc/heliometer/owners.toml
    """
    from heliometer.cli.agent import Agent, show

    agent = Agent(
        access,
        tuple(dict.fromkeys(collectors)),
        libvirt_uri=libvirt_uri,
        owners=owners,
        interval_s=interval or 0,
        spool=spool,
        spool_bytes=spool_bytes,
        spread_s=spread,
    )
    return show(agent) if dry_run else agent.run()
