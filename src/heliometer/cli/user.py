"""``heliometer user``: the operator's view of users and their roles."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heliometer.cli.access import read_password
from heliometer.cli.operator import manage
from heliometer.cli.options import settings_options
from heliometer.cli.removal import confirmed, removal_options
from heliometer.cli.table import table
from heliometer.identity.model import ROLES

if TYPE_CHECKING:
    from heliometer.identity.accounts import Membership, User
    from heliometer.identity.builtin.service import BuiltinIdentity

_role = click.option(
    "--role",
    type=click.Choice(list(ROLES)),
    default="member",
    show_default=True,
    help="What the user may do in the project.",
)
_project = click.option("--project", required=True, metavar="P", help="The project's name or id.")
_password = click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input instead of asking for it twice.",
)


@click.group(short_help="Create and manage users (on the data directory).")
def user() -> None:
    """Create and manage users. Works on the data directory, also while the server runs.

    \b
    Examples:
      heliometer user create ann --project shop
      heliometer user grant ann --project stock --role reader
      heliometer user revoke ann --project stock
      heliometer user list
      heliometer user delete ann --dry-run
    """


@user.command()
@click.argument("name")
@_project
@_role
@_password
@settings_options
def create(
    name: str,
    project: str,
    role: str,
    password_stdin: bool,
    data_dir: str | None,
    config: Path | None,
) -> None:
    """Create the user NAME in a project and print the user's id.

    \b
    Examples:
      heliometer user create ann --project shop
      printf %s "$PASSWORD" | heliometer user create bot --project shop --role agent \\
        --password-stdin
    """
    password = read_password(confirm=True, from_stdin=password_stdin)
    click.echo(
        manage(
            config, data_dir, lambda directory: directory.create_user(name, password, project, role)
        )
    )


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
def list_(as_json: bool, data_dir: str | None, config: Path | None) -> None:
    """List the users with their projects and roles.

    \b
    Examples:
      heliometer user list
      heliometer user list --json
    """

    async def read(directory: "BuiltinIdentity") -> "list[tuple[User, list[Membership]]]":
        users = await directory.list_users()
        return [(each, await directory.list_memberships(each.id)) for each in users]

    found = manage(config, data_dir, read)
    if as_json:
        import msgspec

        rows = [
            {
                "id": each.id,
                "name": each.name,
                "enabled": each.enabled,
                "roles": [{"project": m.project.name, "role": m.role} for m in memberships],
            }
            for each, memberships in found
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    elif found:
        cells = [
            [
                each.id,
                "yes" if each.enabled else "no",
                each.name,
                ", ".join(f"{m.project.name}: {m.role}" for m in memberships),
            ]
            for each, memberships in found
        ]
        click.echo(table(["ID", "ENABLED", "NAME", "PROJECTS AND ROLES"], cells, "<<<<"))
    else:
        click.echo("no users yet; the first start of the server creates one", err=True)


@user.command()
@click.argument("name")
@_project
@_role
@settings_options
def grant(name: str, project: str, role: str, data_dir: str | None, config: Path | None) -> None:
    """Give the user NAME a role in a project; it replaces the current role there.

    \b
    Examples:
      heliometer user grant ann --project stock --role reader
    """
    manage(config, data_dir, lambda directory: directory.grant(name, project, role))


@user.command()
@click.argument("name")
@_project
@settings_options
def revoke(name: str, project: str, data_dir: str | None, config: Path | None) -> None:
    """Take the role of the user NAME in a project away; its tokens there are revoked.

    \b
    Examples:
      heliometer user revoke ann --project stock
    """
    manage(config, data_dir, lambda directory: directory.revoke_role(name, project))


@user.command()
@click.argument("name")
@_password
@settings_options
def password(name: str, password_stdin: bool, data_dir: str | None, config: Path | None) -> None:
    """Change the password of the user NAME; existing tokens are revoked.

    \b
    Examples:
      heliometer user password ann
      printf %s "$PASSWORD" | heliometer user password ann --password-stdin
    """
    new = read_password(confirm=True, from_stdin=password_stdin)
    manage(config, data_dir, lambda directory: directory.set_password(name, new))


@user.command()
@click.argument("name")
@settings_options
def disable(name: str, data_dir: str | None, config: Path | None) -> None:
    """Disable the user NAME; its tokens are revoked.

    \b
    Examples:
      heliometer user disable ann
    """
    manage(config, data_dir, lambda directory: directory.disable_user(name))


@user.command()
@click.argument("name")
@settings_options
def enable(name: str, data_dir: str | None, config: Path | None) -> None:
    """Enable the user NAME again.

    \b
    Examples:
      heliometer user enable ann
    """
    manage(config, data_dir, lambda directory: directory.enable_user(name))


@user.command()
@click.argument("name")
@removal_options
@settings_options
def delete(name: str, dry_run: bool, yes: bool, data_dir: str | None, config: Path | None) -> None:
    """Delete the user NAME, after saying what would go with it.

    \b
    Examples:
      heliometer user delete ann --dry-run
      heliometer user delete ann --yes
    """
    holdings = manage(config, data_dir, lambda directory: directory.user_holdings(name))
    what = f"user {name} would be deleted with its"
    after = "What it made in projects stays, and the audit trail keeps its name."
    if confirmed(what, holdings, after, dry_run=dry_run, yes=yes):
        manage(config, data_dir, lambda directory: directory.delete_user(name))
