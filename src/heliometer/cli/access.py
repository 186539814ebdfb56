"""The options of client commands: which server, and as whom."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from heliometer.cli.credentials import DEFAULT_URL, Credentials

if TYPE_CHECKING:
    from heliometer.cli.client import Client

OPTIONS = (
    click.option(
        "--url",
        envvar="HELIOMETER_URL",
        metavar="URL",
        help=f"Root of the server; overrides the service catalog.  [default: {DEFAULT_URL}]",
    ),
    click.option(
        "--auth-url",
        envvar="OS_AUTH_URL",
        metavar="URL",
        help="Where to sign in, such as https://host/identity/v3.  [default: URL/identity]",
    ),
    click.option("--username", envvar="OS_USERNAME", metavar="NAME", help="User to sign in as."),
    click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
    click.option("--password", envvar="OS_PASSWORD", hidden=True),
    click.option(
        "--project",
        envvar=["OS_PROJECT_NAME", "OS_TENANT_NAME"],
        metavar="NAME",
        help="Project to work in.",
    ),
    click.option("--project-id", envvar="OS_PROJECT_ID", metavar="ID", help="The same, by id."),
    click.option("--region", envvar="OS_REGION_NAME", metavar="NAME", help="Region to work in."),
    click.option("--token", envvar="OS_TOKEN", hidden=True),
    click.option("--user-domain", envvar=["OS_USER_DOMAIN_NAME"], hidden=True),
    click.option("--project-domain", envvar=["OS_PROJECT_DOMAIN_NAME"], hidden=True),
    click.option(
        "--cacert",
        envvar="OS_CACERT",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="PEM file of the authorities to trust.",
    ),
    click.option("--insecure", is_flag=True, help="Do not verify the server's certificate."),
)
ENVIRONMENT = """\b
Environment: HELIOMETER_URL, OS_AUTH_URL, OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME (or
OS_TENANT_NAME), OS_PROJECT_ID, OS_REGION_NAME, OS_TOKEN, OS_CACERT."""


@dataclass(frozen=True, slots=True)
class Access(Credentials):
    """What a command was given; can connect."""

    def connect(self, **patience: Any) -> "AbstractContextManager[Client]":
        """A client; it signs in when it is first used."""
        from heliometer.cli.client import Client

        return Client(self, **patience)


FIELDS = tuple(field.name for field in fields(Access))


def client_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of client commands; the command gets ``access``."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in ("password_stdin", *FIELDS)}
        return function(*args, access=_access(click.get_current_context(), given), **kwargs)

    decorated: Callable[..., Any] = command
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated


def _access(context: click.Context, given: dict[str, Any]) -> Access:
    from_stdin = given.pop("password_stdin")
    values = {name: value for name, value in given.items() if value}
    on_command_line = {
        name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    # A flag wins over the environment: the credentials of the cloud whose variables are set must
    # not be sent to the server that the user names now.
    if "url" in on_command_line and "auth_url" not in on_command_line:
        values.pop("auth_url", None)
    if "username" in on_command_line and "token" not in on_command_line:
        values.pop("token", None)
    if "project" in on_command_line and "project_id" not in on_command_line:
        values.pop("project_id", None)
    if from_stdin:
        values["password"] = read_password(confirm=False, from_stdin=True)
        values.pop("token", None)
    elif not values.get("token") and values.get("username") and not values.get("password"):
        values["password"] = read_password(confirm=False, from_stdin=False)
    return Access(**values)


def read_password(*, confirm: bool, from_stdin: bool, prompt: str = "Password") -> str:
    """The password: standard input without its final newline, or asked for on the terminal.

    ``confirm`` asks twice. Raises a usage error when there is neither.
    """
    if from_stdin:
        text = sys.stdin.read()
        password = text[:-1] if text.endswith("\n") else text
        password = password.removesuffix("\r")
        if not password:
            raise click.UsageError("no password on standard input")
        return password
    if not sys.stdin.isatty():
        raise click.UsageError(
            "no password given; use --password-stdin or, for client commands, OS_PASSWORD"
        )
    answer: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer
