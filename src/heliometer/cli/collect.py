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
    help="What to read; repeatable.",
)
@click.option(
    "--libvirt-uri",
    metavar="URI",
    default="qemu:///system",
    show_default=True,
    help="Hypervisor that the libvirt collector reads.",
)
@click.option(
    "--owners",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file that names the project of each virtual machine that OpenStack Nova does not.",
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
    help="Where reports wait while the server is unreachable.  [default: $STATE_DIRECTORY/spool, "
    "else ~/.local/state/heliometer/spool]",
)
@click.option(
    "--spool-bytes",
    type=click.IntRange(MIB),
    default=256 * MIB,
    show_default=True,
    metavar="BYTES",
    help="Limit of the spool; the oldest reports are dropped first.",
)
@click.option(
    "--spread",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Start at a random moment within this many seconds, so that machines that boot together "
    "do not report together.",
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

    The user needs the role agent. Reports are written to the spool before they are sent, and
    delivered later if the server is unreachable: nothing is lost within two weeks. Runs until
    SIGTERM or Ctrl-C. The libvirt collector needs: pip install heliometer[libvirt]

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
