"""``heliometer repair``: saves what can be saved of damaged data."""

from pathlib import Path

import click

from heliometer.cli.errors import CommandError
from heliometer.cli.options import load_settings, settings_options

HEADINGS = {
    "problems": "found",
    "saved": "can be saved",
    "lost": "is lost",
    "kept": "stays in quarantine",
}


@click.command(short_help="Save what can be saved of damaged data.")
@settings_options
@click.option("--apply", is_flag=True, help="Do it; without this, nothing is changed.")
def repair(data_dir: str | None, config: Path | None, apply: bool) -> int:
    """Check the data directory, and show what is damaged, what can be saved and what is lost.

    With --apply it is saved. Nothing is deleted: what is replaced goes to the folder quarantine.
    No server may run on the directory; back it up first if you can.

    \b
    Examples:
      heliometer repair --data-dir /var/lib/heliometer
      heliometer repair --data-dir /var/lib/heliometer --apply
    """
    import logging

    from heliometer.server.repair import repair as run

    logging.getLogger("heliometer").addHandler(logging.NullHandler())
    settings = load_settings(config, data_dir)
    if not settings.data_dir.is_dir():
        raise CommandError(f"no data in {settings.data_dir}; use --data-dir or --config")
    report = run(settings, apply=apply)
    for name, heading in HEADINGS.items():
        if name == "saved" and apply:
            heading = "saved"
        for sentence in report[name]:
            click.echo(f"{heading}: {sentence}")
    if not any(report.values()):
        click.echo("nothing is damaged")
    elif apply:
        click.echo("repaired; check with: heliometer doctor")
    else:
        click.echo("nothing was changed; to save this: heliometer repair --apply")
    return 0
