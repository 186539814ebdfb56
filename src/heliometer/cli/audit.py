"""``heliometer audit``: who changed what, from the data directory or from a server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options
from heliometer.cli.options import load_settings, settings_options

if TYPE_CHECKING:
    from heliometer.identity.audit import AuditFilter

COLUMNS = {
    "WHEN": "timestamp",
    "WHO": "actor",
    "CHANGE": "action",
    "OF WHAT": "details",
    "PROJECT": "project_id",
}


@click.command(short_help="Show who changed what.", epilog=ENVIRONMENT)
@client_options
@settings_options
@click.option("--actor", metavar="NAME", help="Only what this user changed.")
@click.option("--action", metavar="TEXT", help="Only this kind of change, such as 'delete alarm'.")
@click.option("--since", metavar="WHEN", help="From then on: 30m, 24h or 14d ago, or a time.")
@click.option("--until", metavar="WHEN", help="Before then.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="The most entries, newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(
    access: Access,
    data_dir: str | None,
    config: Path | None,
    actor: str | None,
    action: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show who changed what, newest first.

    On the server's machine this reads the whole trail in the data directory, also while the server
    runs. With a user (--username or OS_USERNAME, or a token) a server is asked: an operator sees
    everything, an admin the changes in the project.

    \b
    Examples:
      heliometer audit --data-dir /var/lib/heliometer --since 7d
      heliometer audit --username anna --project web --action 'delete alarm'
    """
    start, end = _ms("--since", since), _ms("--until", until)
    local = data_dir is not None or config is not None
    if not local and (access.username or access.token):
        query = {
            "actor": actor,
            "action": action,
            "start_time": _iso(start),
            "end_time": _iso(end),
        }
        rows = _ask(access, {k: v for k, v in query.items() if v}, limit)
    else:
        from heliometer.identity.audit import AuditFilter

        wanted = AuditFilter(actor=actor, action=action, start_ms=start, end_ms=end)
        rows = _read(config, data_dir, wanted, limit)
    from heliometer.cli.resources import show_table

    show_table(rows, COLUMNS, "no changes", as_json=as_json)


def _ask(access: Access, query: dict[str, str], limit: int) -> list[dict[str, Any]]:
    from heliometer.cli.resources import pages

    with access.connect() as client:
        return list(pages(client, "/audit", "audit", limit, query))


def _read(
    config: Path | None, data_dir: str | None, wanted: "AuditFilter", limit: int
) -> list[dict[str, Any]]:
    settings = load_settings(config, data_dir)
    from heliometer.server.operator import read_audit

    return [
        {
            "id": entry.id,
            "timestamp": _iso(entry.at_ms),
            "actor": entry.actor,
            "project_id": entry.project_id,
            "action": entry.action,
            "details": entry.details,
        }
        for entry in read_audit(settings, wanted, limit)
    ]


def _ms(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    from heliometer.cli.time_formats import parse_moment

    try:
        return int(parse_moment(text, datetime.now(UTC)).timestamp() * 1000)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


def _iso(ms: int | None) -> str:
    if ms is None:
        return ""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
