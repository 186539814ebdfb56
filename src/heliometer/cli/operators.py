"""``heliometer operator``: who, beside whoever is on this machine, operates the whole service."""

from pathlib import Path

import click

from heliometer.cli.operator import manage
from heliometer.cli.options import settings_options


@click.group(short_help="Name users who operate the whole service (on the data directory).")
def operator() -> None:
    """Name users who operate the whole service. Works on the data directory, also while the
    server runs.

    An operator manages all users and projects and reads the whole audit trail, through the API
    and in the console. The role admin is something else: it manages the members of its project.

    \b
    Examples:
      heliometer operator add ann
      heliometer operator list
      heliometer operator remove ann
    """


@operator.command()
@click.argument("name")
@settings_options
def add(name: str, data_dir: str | None, config: Path | None) -> None:
    """Let the user NAME operate the service.

    \b
    Examples:
      heliometer operator add ann
    """
    manage(config, data_dir, lambda directory: directory.set_operator(name, True))


@operator.command()
@click.argument("name")
@settings_options
def remove(name: str, data_dir: str | None, config: Path | None) -> None:
    """Let the user NAME no longer operate the service; its roles stay.

    \b
    Examples:
      heliometer operator remove ann
    """
    manage(config, data_dir, lambda directory: directory.set_operator(name, False))


@operator.command("list")
@settings_options
def list_(data_dir: str | None, config: Path | None) -> None:
    """List the names of the operators.

    \b
    Examples:
      heliometer operator list
    """
    users = manage(config, data_dir, lambda directory: directory.list_users())
    for each in users:
        if each.is_operator:
            click.echo(each.name)
