"""``heliometer project``: the operator's view of projects."""

from pathlib import Path

import click

from heliometer.cli.operator import manage
from heliometer.cli.options import settings_options
from heliometer.cli.removal import confirmed, removal_options
from heliometer.cli.table import table

AFTER = """\
Its measurements can no longer be reached at once, and leave the disk with all others of their age
(metrics.retention_days). Its users stay. A new project of the same name starts empty."""


@click.group(short_help="Create and manage projects (on the data directory).")
def project() -> None:
    """Create and manage projects. Works on the data directory, also while the server runs.

    \b
    Examples:
      heliometer project create shop
      heliometer project list
      heliometer project disable shop
      heliometer project delete shop --dry-run
    """


@project.command()
@click.argument("name")
@settings_options
def create(name: str, data_dir: str | None, config: Path | None) -> None:
    """Create the project NAME and print its id.

    \b
    Examples:
      heliometer project create shop
      P=$(heliometer project create shop --data-dir /var/lib/heliometer)
    """
    click.echo(manage(config, data_dir, lambda directory: directory.create_project(name)))


@project.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
def list_(as_json: bool, data_dir: str | None, config: Path | None) -> None:
    """List the projects.

    \b
    Examples:
      heliometer project list
      heliometer project list --json
    """
    found = manage(config, data_dir, lambda directory: directory.list_projects())
    if as_json:
        import msgspec

        rows = [{"id": p.id, "name": p.name, "enabled": p.enabled} for p in found]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    elif found:
        cells = [[p.id, "yes" if p.enabled else "no", p.name] for p in found]
        click.echo(table(["ID", "ENABLED", "NAME"], cells, "<<<"))
    else:
        click.echo("no projects yet; the first start of the server creates one", err=True)


@project.command()
@click.argument("name")
@settings_options
def disable(name: str, data_dir: str | None, config: Path | None) -> None:
    """Disable the project NAME: nobody gets in, and all its data stays.

    Tokens end, measurements are refused and consumers of the feed are disconnected: at once or
    within a minute. Alarms are evaluated further, but notify nobody; messages that wait are
    withheld.

    \b
    Examples:
      heliometer project disable shop
    """
    manage(config, data_dir, lambda directory: directory.disable_project(name))


@project.command()
@click.argument("name")
@settings_options
def enable(name: str, data_dir: str | None, config: Path | None) -> None:
    """Enable the project NAME again. Tokens that ended stay void.

    \b
    Examples:
      heliometer project enable shop
    """
    manage(config, data_dir, lambda directory: directory.enable_project(name))


@project.command()
@click.argument("name")
@removal_options
@settings_options
def delete(name: str, dry_run: bool, yes: bool, data_dir: str | None, config: Path | None) -> None:
    """Delete the project NAME with its alarms, notifications and feed, after saying what it has.

    \b
    Examples:
      heliometer project delete shop --dry-run
      heliometer project delete shop --yes
    """
    holdings = manage(config, data_dir, lambda directory: directory.project_holdings(name))
    what = f"project {name} would be deleted with its"
    if confirmed(what, holdings, AFTER, dry_run=dry_run, yes=yes):
        manage(config, data_dir, lambda directory: directory.delete_project(name))
