"""``heliometer secrets``: the key that secrets of notification methods are encrypted with."""

from pathlib import Path

import click

from heliometer.cli.options import load_settings, settings_options


@click.group(short_help="The key that secrets are encrypted with.")
def secrets() -> None:
    """The key that secrets of notification methods are encrypted with. Works on the data directory,
    also while the server runs.

    \b
    Examples:
      heliometer secrets rotate
    """


@secrets.command()
@click.option(
    "--force",
    is_flag=True,
    help="Go on with a new key although the present one is lost; what it kept stays disabled.",
)
@settings_options
def rotate(force: bool, data_dir: str | None, config: Path | None) -> None:
    """Make a new key and encrypt every secret with it.

    In a cluster this takes two runs: the first adds the key to the file, for you to copy to every
    process; the second uses it.

    \b
    Examples:
      heliometer secrets rotate --data-dir /var/lib/heliometer
      heliometer secrets rotate --config /etc/heliometer.toml
    """
    settings = load_settings(config, data_dir)
    from heliometer.server.operator import rotate_secrets

    done = rotate_secrets(settings, force=force)
    file = settings.secret_key_file
    if done["waits"]:
        click.echo(
            f"added key {done['fingerprint']} to {file}; copy the file to every process, wait a "
            "minute, and run this again to use it"
        )
        return
    click.echo(f"encrypted {done['encrypted']} secrets with key {done['fingerprint']} in {file}")
    if done["unreadable"]:
        click.echo(
            f"{done['unreadable']} notification methods stay disabled: their key is lost; delete "
            "them and create them again",
            err=True,
        )
