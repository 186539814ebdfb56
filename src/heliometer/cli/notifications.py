"""``heliometer notifications``: where to, proof of addresses, and the ledger."""

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options

METHODS = "/notification-methods"
ADDRESSES = "/notification-addresses"
LEDGER = "/notifications"
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Notification methods, addresses, and who was told of what.")
def notifications() -> None:
    """Where notifications go, proof that they may, and the ledger of what was sent.

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
    """Notification methods: where notifications go.

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
    show_table(found, columns, "there are no notification methods yet", as_json=as_json)


@methods.command("create", epilog=ENVIRONMENT)
@client_options
@click.argument("name")
@click.argument("type_", metavar="TYPE", type=click.Choice(["EMAIL", "SMS", "WEBHOOK", "APPRISE"]))
@click.argument("address")
@json_option
def create_method(access: Access, name: str, type_: str, address: str, as_json: bool) -> None:
    """Create a method: a NAME, EMAIL, SMS, WEBHOOK or APPRISE, and an ADDRESS; print its id.

    A webhook's secret, which signs what is posted, is shown this once.

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
    """Delete a METHOD (name or id); it leaves every alarm's actions.

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
@click.option("--wait", default=20.0, show_default=True, help="Seconds to wait for its fate.")
def test_method(access: Access, method: str, wait: float) -> None:
    """Send a test message through a METHOD (name or id), and tell what became of it.

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
            sent = client.get(below(LEDGER, sent["id"]))["notification"]
    reason = f": {sent['reason']}" if sent["reason"] else ""
    line = f"{sent['status']} to {sent['address']}{reason}"
    if sent["status"] in ("failed", "withheld"):
        raise CommandError(line)
    click.echo(line)


@notifications.group()
def addresses() -> None:
    """Notification addresses: proof that one may send there.

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
    show_table(found, columns, "there are no addresses yet", as_json=as_json)


@addresses.command("create", epilog=ENVIRONMENT)
@client_options
@click.argument("type_", metavar="TYPE", type=click.Choice(["EMAIL", "SMS"]))
@click.argument("address")
@click.option("--name", metavar="TEXT", help="A description.  [default: the address]")
def create_address(access: Access, type_: str, address: str, name: str | None) -> None:
    """Have a code sent to an ADDRESS of a TYPE (EMAIL or SMS); asked again, send another.

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
        click.echo("it is verified already", err=True)
    else:
        click.echo("a code is on its way; heliometer notifications addresses verify CODE", err=True)


@addresses.command("verify", epilog=ENVIRONMENT)
@client_options
@click.argument("code")
def verify(access: Access, code: str) -> None:
    """Prove an address with the CODE that it received.

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
    """Delete an ADDRESS (name or id): nothing is sent to it any more.

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
def ledger(access: Access, status: str | None, limit: int, as_json: bool) -> None:
    """List who was told of what, newest first.

    \b
    Examples:
      heliometer notifications list --status failed
    """
    from heliometer.cli.resources import pages, show_table, time_of

    with access.connect() as client:
        asked = {"status": status} if status else {}
        found = list(pages(client, LEDGER, "notifications", limit, asked))
    columns = {
        "ID": "id", "QUEUED (UTC)": "queued", "KIND": "kind", "STATUS": "status",
        "TRIES": "attempts", "TO": "address", "REASON": "reason",
    }  # fmt: skip
    items = found if as_json else [{**n, "queued": time_of(n["created_at"])} for n in found]
    show_table(items, columns, "nothing was sent yet", as_json=as_json)


@notifications.command(epilog=ENVIRONMENT)
@client_options
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all-failed", is_flag=True, help="Every notification that failed, but codes.")
def replay(access: Access, ids: tuple[str, ...], all_failed: bool) -> None:
    """Try failed notifications anew.

    \b
    Examples:
      heliometer notifications replay --all-failed
    """
    from heliometer.cli.resources import below, pages, send

    if bool(ids) == all_failed:
        raise click.UsageError("say IDs, or --all-failed", click.get_current_context())
    with access.connect() as client:
        if all_failed:
            failed = pages(client, LEDGER, "notifications", 100_000, {"status": "failed"})
            # Codes are asked for anew: heliometer notifications addresses create.
            ids = tuple(n["id"] for n in failed if n["kind"] != "code")
        for each in ids:
            send(client, "POST", f"{below(LEDGER, each)}/replay")
    click.echo(f"{len(ids)} will be tried again")
