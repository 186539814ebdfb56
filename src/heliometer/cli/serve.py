"""``heliometer serve``: run the service."""

import gc
from pathlib import Path

import click

from heliometer.cli.options import load_settings, settings_options

ROLES = ("api", "evaluator", "notifier", "feed", "collector")


class _Roles(click.ParamType[frozenset[str]]):
    """Names of roles, comma-separated."""

    name = "roles"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        """Split and check the names."""
        if isinstance(value, frozenset):
            return value
        names = frozenset(name.strip() for name in str(value).split(",") if name.strip())
        wrong = sorted(names - frozenset(ROLES))
        if wrong or not names:
            self.fail(f"{', '.join(wrong) or 'none'}: roles are {', '.join(ROLES)}.", param, ctx)
        return names


@click.command(short_help="Run the service.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Address of the HTTP listener.  [default: 127.0.0.1:8779]"
)
@settings_options
@click.option(
    "--roles",
    type=_Roles(),
    metavar="ROLE,…",
    default=frozenset(ROLES),
    help=f"Roles of this process.  [default: all: {','.join(ROLES)}]",
)
def serve(
    listen: str | None, data_dir: str | None, config: Path | None, roles: frozenset[str]
) -> int:
    """Run the service until SIGTERM or Ctrl-C; running requests are finished first.

    Once it serves, it prints the line "heliometer ready on http://HOST:PORT". The first start with
    an empty data directory creates a project and a user named demo, with the password in
    HELIOMETER_BOOTSTRAP_PASSWORD or a random one that is printed once.

    \b
    Examples:
      heliometer serve
      heliometer serve --listen 0.0.0.0:8779 --data-dir /var/lib/heliometer
      heliometer serve --config /etc/heliometer.toml --roles api,evaluator
    """
    settings = load_settings(config, data_dir, server_listen=listen)
    gc.disable()  # imports leave no garbage, and looking for it takes a tenth of the start
    from heliometer.server.process import serve as run

    gc.enable()
    return run(settings, roles)
