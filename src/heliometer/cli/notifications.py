"""``heliometer notifications``: methods, addresses and the delivery log."""

from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from heliometer.cli.access import ENVIRONMENT, Access, client_options

METHODS = "/notification-methods"
ADDRESSES = "/notification-addresses"
LOG = "/notifications"


class ChannelType(click.ParamType[str]):
    """One of the channels' types; what each sends to is told in the command's help."""

    name = "type"

    def __init__(self, *, with_code: bool = False) -> None:
        self._with_code = with_code

    def types(self) -> Sequence[str]:
        """The types, in the order in which they are shown; only those whose addresses are
        confirmed with a code, if so asked."""
        from heliometer.notifications.channels import CHANNELS, confirmed_types

        return confirmed_types() if self._with_code else tuple(CHANNELS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The type as given; fails as a choice does."""
        return click.Choice(self.types()).convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Types that begin with what was typed."""
        return click.Choice(self.types()).shell_complete(ctx, param, incomplete)


class ChannelCommand(click.Command):
    """A command with an argument of a ChannelType: its help lists what each type sends to."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The types, then the options."""
        from heliometer.notifications.channels import find_channel

        rows = []
        for param in self.params:
            for type_ in param.type.types() if isinstance(param.type, ChannelType) else ():
                channel = find_channel(type_)
                assert channel is not None
                field = channel.address
                text = f"{field.label}, such as {field.placeholder}. {field.help}".strip()
                rows.append((type_, text[:1].upper() + text[1:]))
        with formatter.section("Types, and what ADDRESS is"):
            formatter.write_dl(rows)
        super().format_options(ctx, formatter)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Notification methods, addresses and the delivery log.")
def notifications() -> None:
    """Where notifications are sent, addresses and their confirmation, and the delivery log.

    \b
    Examples:
      heliometer notifications methods create 'Joe' EMAIL joe@mail.com
      heliometer notifications addresses create EMAIL joe@mail.com
      heliometer notifications addresses verify 1234567890
      heliometer notifications methods test Joe
      heliometer notifications list --status failed
    """


@notifications.group()
def methods() -> None:
    """Notification methods: where notifications are sent.

    \b
    Examples:
      heliometer notifications methods create Joe EMAIL joe@mail.com
    """


@methods.command("list", epilog=ENVIRONMENT)
@client_options
@json_option
def list_methods(access: Access, as_json: bool) -> None:
    """List notification methods.

    \b
    Examples:
      heliometer notifications methods list
    """
    from heliometer.cli.resources import show_table

    with access.connect() as client:
        found = client.get(METHODS)["notification_methods"]
    columns = {"ID": "id", "TYPE": "type", "ADDRESS": "address", "NAME": "name"}
    show_table(found, columns, "no notification methods", as_json=as_json)


@methods.command("create", cls=ChannelCommand, epilog=ENVIRONMENT)
@client_options
@click.argument("name")
@click.argument("type_", metavar="TYPE", type=ChannelType())
@click.argument("address")
@json_option
def create_method(access: Access, name: str, type_: str, address: str, as_json: bool) -> None:
    """Create a method with a NAME, a TYPE and an ADDRESS; print its id.

    A secret by which messages are signed, as those of a WEBHOOK are, is shown only now.

    \b
    Examples:
      heliometer notifications methods create Joe EMAIL joe@mail.com
      heliometer notifications methods create Chat WEBHOOK https://chat.example.org/hook
    """
    from heliometer.cli.resources import send, show_json

    wanted = {"name": name, "type": type_, "address": address}
    with access.connect() as client:
        made = send(client, "POST", METHODS, {"notification_method": wanted})["notification_method"]
    if as_json:
        show_json(made)
        return
    click.echo(made["id"])
    if "secret" in made:
        click.echo(f"secret: {made['secret']}", err=True)


@methods.command("delete", epilog=ENVIRONMENT)
@client_options
@click.argument("method")
def delete_method(access: Access, method: str) -> None:
    """Delete a METHOD (name or id); it is removed from every alarm's actions.

    \b
    Examples:
      heliometer notifications methods delete Joe
    """
    from heliometer.cli.resources import below, named, send

    with access.connect() as client:
        found = named(client, METHODS, "notification_methods", method)
        send(client, "DELETE", below(METHODS, found["id"]))


@methods.command("test", epilog=ENVIRONMENT)
@client_options
@click.argument("method")
@click.option("--wait", default=20.0, show_default=True, help="Seconds to wait for the result.")
def test_method(access: Access, method: str, wait: float) -> None:
    """Send a test message through a METHOD (name or id), and say what became of it.

    \b
    Examples:
      heliometer notifications methods test Joe
    """
    import time

    from heliometer.cli.errors import CommandError
    from heliometer.cli.resources import below, named, send

    with access.connect() as client:
        found = named(client, METHODS, "notification_methods", method)
        sent = send(client, "POST", f"{below(METHODS, found['id'])}/test")["notification"]
        deadline = time.monotonic() + wait
        while sent["status"] == "pending" and time.monotonic() < deadline:
            time.sleep(0.2)
            sent = client.get(below(LOG, sent["id"]))["notification"]
    reason = f": {sent['reason']}" if sent["reason"] else ""
    line = f"{sent['status']} to {sent['address']}{reason}"
    if sent["status"] in ("failed", "withheld"):
        raise CommandError(line)
    click.echo(line)


@notifications.group()
def addresses() -> None:
    """Notification addresses: confirmed, notifications may be sent to them.

    \b
    Examples:
      heliometer notifications addresses create EMAIL joe@mail.com
    """


@addresses.command("list", epilog=ENVIRONMENT)
@client_options
@json_option
def list_addresses(access: Access, as_json: bool) -> None:
    """List addresses and whether they are verified.

    \b
    Examples:
      heliometer notifications addresses list
    """
    from heliometer.cli.resources import show_table

    with access.connect() as client:
        found = client.get(ADDRESSES)["notification_addresses"]
    columns = {"ID": "id", "TYPE": "type", "STATE": "state", "ADDRESS": "address", "NAME": "name"}
    show_table(found, columns, "no notification addresses", as_json=as_json)


@addresses.command("create", cls=ChannelCommand, epilog=ENVIRONMENT)
@client_options
@click.argument("type_", metavar="TYPE", type=ChannelType(with_code=True))
@click.argument("address")
@click.option("--name", metavar="TEXT", help="A description.  [default: the address]")
def create_address(access: Access, type_: str, address: str, name: str | None) -> None:
    """Send a code to an ADDRESS of a TYPE; repeated, send another one.

    \b
    Examples:
      heliometer notifications addresses create EMAIL joe@mail.com --name Joe
    """
    from heliometer.cli.resources import send

    wanted = {"type": type_, "address": address, "name": name or address}
    with access.connect() as client:
        made = send(client, "POST", ADDRESSES, {"notification_address": wanted})
    state = made["notification_address"]["state"]
    click.echo(made["notification_address"]["id"])
    if state == "verified":
        click.echo("already verified", err=True)
    else:
        click.echo(
            "a code was sent; confirm with: heliometer notifications addresses verify CODE",
            err=True,
        )


@addresses.command("verify", epilog=ENVIRONMENT)
@client_options
@click.argument("code")
def verify(access: Access, code: str) -> None:
    """Confirm an address with the CODE that was sent to it.

    \b
    Examples:
      heliometer notifications addresses verify 1234567890
    """
    from heliometer.cli.resources import send

    with access.connect() as client:
        send(client, "POST", f"{ADDRESSES}/validate", {"validation_code": code})
    click.echo("verified")


@addresses.command("delete", epilog=ENVIRONMENT)
@client_options
@click.argument("address")
def delete_address(access: Access, address: str) -> None:
    """Delete an ADDRESS (name or id): nothing will be sent to it.

    \b
    Examples:
      heliometer notifications addresses delete Joe
    """
    from heliometer.cli.resources import below, named, send

    with access.connect() as client:
        found = named(client, ADDRESSES, "notification_addresses", address)
        send(client, "DELETE", below(ADDRESSES, found["id"]))


@notifications.command("list", epilog=ENVIRONMENT)
@client_options
@click.option("--status", type=click.Choice(["pending", "delivered", "failed", "withheld"]))
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
def log(access: Access, status: str | None, limit: int, as_json: bool) -> None:
    """List the delivery log, newest first.

    \b
    Examples:
      heliometer notifications list --status failed
    """
    from heliometer.cli.resources import pages, show_table, time_of

    with access.connect() as client:
        asked = {"status": status} if status else {}
        found = list(pages(client, LOG, "notifications", limit, asked))
    columns = {
        "ID": "id", "QUEUED (UTC)": "queued", "KIND": "kind", "STATUS": "status",
        "TRIES": "attempts", "TO": "address", "REASON": "reason",
    }  # fmt: skip
    items = found if as_json else [{**n, "queued": time_of(n["created_at"])} for n in found]
    show_table(items, columns, "no notifications yet", as_json=as_json)


@notifications.command(epilog=ENVIRONMENT)
@client_options
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all-failed", is_flag=True, help="All that failed, except codes.")
def replay(access: Access, ids: tuple[str, ...], all_failed: bool) -> None:
    """Send failed notifications again.

    \b
    Examples:
      heliometer notifications replay --all-failed
    """
    from heliometer.cli.resources import below, pages, send

    if bool(ids) == all_failed:
        raise click.UsageError("give IDs or --all-failed", click.get_current_context())
    with access.connect() as client:
        if all_failed:
            failed = pages(client, LOG, "notifications", 100_000, {"status": "failed"})
            # A new code is requested by: heliometer notifications addresses create.
            ids = tuple(n["id"] for n in failed if n["kind"] != "code")
        for each in ids:
            send(client, "POST", f"{below(LOG, each)}/replay")
    click.echo(f"{len(ids)} will be sent again")
