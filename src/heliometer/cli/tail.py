"""``heliometer tail``: the project's metrics as they arrive."""

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options
from heliometer.cli.options import dimension_option, unique


@click.command(epilog=ENVIRONMENT, short_help="Show the project's metrics as they arrive.")
@client_options
@click.option("--namespace", metavar="NAME", help="Only metrics of this namespace.")
@dimension_option
@click.option("--json", "as_json", is_flag=True, help="Print each message as received.")
@click.option(
    "-n", "--count", type=click.IntRange(1), metavar="N", help="Stop after this many messages."
)
@click.option(
    "--reset-password",
    is_flag=True,
    help="Give the project's endpoint a new password; its other consumers will need it too.",
)
def tail(
    access: Access,
    namespace: str | None,
    dimensions: tuple[tuple[str, str], ...],
    as_json: bool,
    count: int | None,
    reset_password: bool,
) -> None:
    """Show metrics live, until Ctrl-C.

    They arrive over AMQP, as for any consumer, in a queue of their own: no other consumer misses
    anything. If needed, the project's endpoint and a subscription for each known series are
    created, and removed afterwards. If the project already has an endpoint, set its password in
    the environment variable HELIOMETER_AMQP_PASSWORD.

    \b
    Examples:
      heliometer tail
      heliometer tail --namespace hpcs.compute -d instance_id=web1
      heliometer tail --namespace shop --json | jq .value
    """
    from heliometer.cli.feed_follower import follow

    follow(
        access, namespace, unique(dimensions), as_json=as_json, count=count, reset=reset_password
    )
