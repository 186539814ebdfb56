"""``heliometer alarms``: define alarms, try expressions on history, explain states."""

from typing import Any

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options

PATH = "/alarms"
STATES = ("UNDETERMINED", "OK", "ALARM")
SEVERITIES = ("low", "medium", "high", "critical")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Define alarms, try them on history, explain them.")
def alarms() -> None:
    """Define alarms, try expressions on history, and explain why an alarm is in its state.

    \b
    Examples:
      heliometer alarms test 'avg(hpcs.compute{metric_name=cpu_total_utilization}) > 90' --since 1d --plot
      heliometer alarms create 'Busy' 'avg(hpcs.compute{metric_name=cpu_total_utilization}, 300) > 90'
      heliometer alarms explain Busy
    """  # noqa: E501


@alarms.command("list", epilog=ENVIRONMENT)
@client_options
@click.option(
    "--state", type=click.Choice(STATES, case_sensitive=False), help="Only alarms in this state."
)
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only alarms of this severity.")
@click.option("--name", metavar="TEXT", help="Only alarms with this text in their name.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True)
@json_option
def list_(
    access: Access,
    state: str | None,
    severity: str | None,
    name: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List alarms with their states.

    \b
    Examples:
      heliometer alarms list --state ALARM
    """
    from heliometer.cli.resources import pages, show_table, time_of

    given = {"state": state, "severity": severity, "name": name}
    with access.connect() as client:
        asked = {k: v for k, v in given.items() if v}
        found = list(pages(client, PATH, "alarms", limit, asked))
    columns = {
        "ID": "id", "STATE": "state", "SINCE (UTC)": "since", "SEVERITY": "severity",
        "ON": "enabled", "NAME": "name", "EXPRESSION": "expression",
    }  # fmt: skip
    items = found if as_json else [{**a, "since": time_of(a["state_since"])} for a in found]
    show_table(items, columns, "no matching alarms", as_json=as_json)


@alarms.command(epilog=ENVIRONMENT)
@client_options
@click.argument("alarm")
def show(access: Access, alarm: str) -> None:
    """Show one ALARM, by name or id, as JSON.

    \b
    Examples:
      heliometer alarms show Busy
    """
    from heliometer.cli.resources import named, show_json

    with access.connect() as client:
        show_json(named(client, PATH, "alarms", alarm))


def _fields(function: Any) -> Any:
    for option in reversed(
        [
            click.option("--description", metavar="TEXT"),
            click.option("--severity", type=click.Choice(SEVERITIES)),
            click.option("--action", "alarm_actions", multiple=True, metavar="METHOD",
                         help="Notification method (name or id) to use on ALARM; repeatable. "
                         "'' for none."),
            click.option("--ok-action", "ok_actions", multiple=True, metavar="METHOD",
                         help="The same for OK."),
            click.option("--undetermined-action", "undetermined_actions", multiple=True,
                         metavar="METHOD", help="The same for UNDETERMINED."),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


@alarms.command(epilog=ENVIRONMENT)
@client_options
@click.argument("name")
@click.argument("expression")
@_fields
@json_option
def create(access: Access, name: str, expression: str, as_json: bool, **fields: Any) -> None:
    """Create an alarm with a NAME and an EXPRESSION, and print its id.

    \b
    Examples:
      heliometer alarms create Quiet 'count(shop{metric_name=orders}, 300) < 1' --action Joe
      heliometer alarms create Busy 'hpcs.compute{metric_name=cpu_total_utilization} > 90'
    """
    from heliometer.cli.resources import send, show_json

    with access.connect() as client:
        wanted = {"name": name, "expression": expression, **_given(client, fields)}
        made = send(client, "POST", PATH, {"alarm": wanted})["alarm"]
    if as_json:
        show_json(made)
    else:
        click.echo(made["id"])


@alarms.command(epilog=ENVIRONMENT)
@client_options
@click.argument("alarm")
@click.option("--name", metavar="TEXT", help="A new name.")
@click.option("--expression", metavar="EXPR")
@_fields
@click.option("--enable/--disable", "enabled", default=None, help="Evaluate it, or not.")
@json_option
def update(access: Access, alarm: str, as_json: bool, **fields: Any) -> None:
    """Change the given fields of an ALARM (name or id); the rest stays as it is.

    \b
    Examples:
      heliometer alarms update Busy --severity high --ok-action Joe
      heliometer alarms update Busy --disable
    """
    from heliometer.cli.resources import below, named, send, show_json

    with access.connect() as client:
        path = below(PATH, named(client, PATH, "alarms", alarm)["id"])
        wanted = _given(client, fields)
        if not wanted:
            raise click.UsageError(
                "nothing to change; see the options", click.get_current_context()
            )
        changed = send(client, "PATCH", path, {"alarm": wanted})["alarm"]
    if as_json:
        show_json(changed)


@alarms.command(epilog=ENVIRONMENT)
@client_options
@click.argument("alarm")
def delete(access: Access, alarm: str) -> None:
    """Delete an ALARM (name or id) with its history.

    \b
    Examples:
      heliometer alarms delete Busy
    """
    from heliometer.cli.resources import below, named, send

    with access.connect() as client:
        send(client, "DELETE", below(PATH, named(client, PATH, "alarms", alarm)["id"]))


@alarms.command(epilog=ENVIRONMENT)
@client_options
@click.argument("expression")
@click.option(
    "--since",
    default="1d",
    show_default=True,
    metavar="WHEN",
    help="How long ago (30m, 24h, 14d), or a time.",
)
@click.option("--until", default="now", show_default=True, metavar="WHEN")
@click.option(
    "--file",
    "file",
    metavar="FILE",
    help="Try it on this CSV or JSON lines file, of any age, without a server.",
)
@click.option("--timestamp-column", default="timestamp", show_default=True, metavar="NAME")
@click.option("--value-column", default="value", show_default=True, metavar="NAME")
@click.option("--plot", is_flag=True, help="Draw values, threshold and alarms.")
@json_option
def test(
    access: Access,
    expression: str,
    since: str,
    until: str,
    file: str | None,
    timestamp_column: str,
    value_column: str,
    plot: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Try an EXPRESSION on stored measurements: when would the alarm have gone off?

    The engine that evaluates alarms runs over the history, minute by minute. With --file, it runs
    over the file's measurements, which all count as the expression's one metric.

    \b
    Examples:
      heliometer alarms test 'max(shop{metric_name=orders}, 300) < 5 times 3' --since 14d --plot
      heliometer alarms test 'avg(cpu, 300) > 60' --file cpu_utilization.csv --plot
    """
    from heliometer.cli import dry_run

    if file is not None:
        document = dry_run.on_file(expression, file, timestamp_column, value_column)
    else:
        document = dry_run.on_server(access, expression, since, until)
    dry_run.show(expression, document, plot=plot, as_json=as_json)


@alarms.command(epilog=ENVIRONMENT)
@client_options
@click.argument("alarm")
@json_option
def explain(access: Access, alarm: str, as_json: bool) -> None:
    """Explain why an ALARM (name or id) is in its state.

    \b
    Examples:
      heliometer alarms explain Busy
    """
    from heliometer.cli.explanation import text
    from heliometer.cli.resources import below, named, show_json

    with access.connect() as client:
        path = below(PATH, named(client, PATH, "alarms", alarm)["id"])
        found = client.get(f"{path}/explanation")["explanation"]
    if as_json:
        show_json(found)
    else:
        click.echo(text(found))


@alarms.command(epilog=ENVIRONMENT)
@client_options
@click.argument("alarm", required=False)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
def history(access: Access, alarm: str | None, limit: int, as_json: bool) -> None:
    """Show the history of an ALARM (name or id), or of all, newest first, with its notifications.

    \b
    Examples:
      heliometer alarms history Busy
      heliometer alarms history --limit 10
    """
    from heliometer.cli.explanation import event
    from heliometer.cli.resources import below, named, pages, show_json

    with access.connect() as client:
        names: dict[str, str] = {}
        path = f"{PATH}/history"
        if alarm is not None:
            path = f"{below(PATH, named(client, PATH, 'alarms', alarm)['id'])}/history"
        else:
            names = {a["id"]: a["name"] for a in client.get(PATH)["alarms"]}
        found = list(pages(client, path, "history", limit))
    if as_json:
        show_json(found)
    elif not found:
        click.echo("no alarm activity yet", err=True)
    for each in [] if as_json else found:
        click.echo(event(each, names.get(each["alarm_id"], "")))


def _given(client: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The given fields, with notification methods by id."""
    given: dict[str, Any] = {}
    for name, value in fields.items():
        if name.endswith("_actions"):
            if value:
                given[name] = [_method_id(client, text) for text in value if text]
        elif value is not None:
            given[name] = value
    return given


def _method_id(client: Any, text: str) -> str:
    from heliometer.cli.resources import named

    return str(named(client, "/notification-methods", "notification_methods", text)["id"])
