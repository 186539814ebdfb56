"""``heliometer project``: the operator's view of projects."""

from pathlib import Path

import click

from heliometer.cli.operator import manage
from heliometer.cli.options import settings_options
from heliometer.cli.table import table


@click.group(short_help="Create and list projects (on the data directory).")
def project() -> None:
    """Create and list projects. Works on the data directory, also while the server runs.

    \b
    Examples:
      heliometer project create shop
      heliometer project list
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
