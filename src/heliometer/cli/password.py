"""``heliometer password``: change one's own password, at any server."""

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options, read_password
from heliometer.cli.errors import CommandError


@click.command(short_help="Change your own password.", epilog=ENVIRONMENT)
@client_options
@click.option(
    "--new-password-stdin",
    is_flag=True,
    help="Read the new password from standard input; OS_PASSWORD has the current one.",
)
def password(access: Access, new_password_stdin: bool) -> None:
    """Change your own password. All your sessions and tokens end.

    \b
    Examples:
      heliometer password --username anna --project web
      printf %s "$NEW" | OS_PASSWORD=$OLD heliometer password --username anna --project web \\
        --new-password-stdin
    """
    import msgspec

    if not access.password:
        raise click.UsageError("the current password is needed: use --username or OS_PASSWORD")
    new = read_password(confirm=True, from_stdin=new_password_stdin, prompt="New password")
    with access.connect() as client:
        session = client.session
        user = session.document.get("user", {}).get("id")
        if not session.identity.endswith("/v3") or not user:
            raise CommandError(
                f"{session.identity} cannot change passwords; use the identity API v3"
            )
        given = {"user": {"original_password": access.password, "password": new}}
        client.call(
            "POST",
            f"{session.identity}/users/{user}/password",
            content=msgspec.json.encode(given),
            headers={"Content-Type": "application/json"},
        )
    click.echo("the password is changed; all your sessions and tokens have ended", err=True)
