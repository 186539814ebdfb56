"""``heliometer tail``: the project's metrics as they arrive."""

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options
from heliometer.cli.options import dimension_option, unique

PASSWORD = "HELIOMETER_AMQP_PASSWORD"


@click.command(epilog=ENVIRONMENT, short_help="Show the project's metrics as they arrive.")
@client_options
@click.option("--namespace", metavar="NAME", help="Only metrics of this namespace.")
@dimension_option
@click.option("--json", "as_json", is_flag=True, help="Print each message as it is.")
@click.option(
    "-n", "--count", type=click.IntRange(1), metavar="N", help="Stop after so many messages."
)
@click.option(
    "--reset-password",
    is_flag=True,
    help="Give the project's endpoint a new password: its other consumers must have it too.",
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

    They come over AMQP, as any consumer gets them, from a queue of their own: nothing is taken
    away from others. What is missing is made and removed again afterwards: the project's endpoint,
    and a subscription for each series that is known. A project that has an endpoint already needs
    its password, in the environment variable HELIOMETER_AMQP_PASSWORD.

    \b
    Examples:
      heliometer tail
      heliometer tail --namespace hpcs.compute -d instance_id=web1
      heliometer tail --namespace shop --json | jq .value
    """
    from heliometer.cli.tailing import follow

    follow(
        access, namespace, unique(dimensions), as_json=as_json, count=count, reset=reset_password
    )
