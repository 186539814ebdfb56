"""``heliometer token``: issue, show and revoke tokens."""

import sys
from typing import Any

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options
from heliometer.cli.errors import CommandError


@click.group(short_help="Issue, show and revoke tokens.")
def token() -> None:
    """Issue, show and revoke tokens, at any server.

    \b
    Examples:
      export OS_USERNAME=demo OS_PROJECT_NAME=demo
      TOKEN=$(heliometer token issue)
      curl -H "X-Auth-Token: $TOKEN" http://127.0.0.1:8779/v1.1/metering
      heliometer token revoke "$TOKEN"
    """


@token.command(epilog=ENVIRONMENT)
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print the token with its details.")
def issue(access: Access, as_json: bool) -> None:
    """Sign in and print the token, for curl and other tools.

    \b
    Examples:
      heliometer token issue --username demo --project demo
      heliometer token issue --json
    """
    with access.connect() as client:
        session = client.session
        if not as_json:
            click.echo(session.token)
            return
        _print_json(
            {
                "token": session.token,
                **_summary(session.document),
                "endpoint": session.endpoint,
                "identity": session.identity,
            }
        )


@token.command(epilog=ENVIRONMENT)
@client_options
@click.argument("value", metavar="[TOKEN]", required=False)
def show(access: Access, value: str | None) -> None:
    """Show whose a token is and when it expires; your own without TOKEN.

    \b
    Examples:
      heliometer token show
      heliometer token show "$TOKEN"
    """
    from heliometer.cli.sign_in import show_token

    with access.connect() as client:
        session = client.session
        document = show_token(session, _given(value) if value else session.token, client.send)
        _print_json(_summary(document))


@token.command(epilog=ENVIRONMENT)
@client_options
@click.argument("value", metavar="TOKEN")
def revoke(access: Access, value: str) -> None:
    """Revoke TOKEN (- reads it from standard input).

    \b
    Examples:
      heliometer token revoke "$TOKEN"
      heliometer token issue | heliometer token revoke -
    """
    subject = _given(value)
    with access.connect() as client:
        session = client.session
        if session.identity.endswith("/v2.0"):
            url, headers = f"{session.identity}/tokens/{subject}", {}
        else:
            url, headers = f"{session.identity}/auth/tokens", {"X-Subject-Token": subject}
        client.call("DELETE", url, headers=headers)


def _given(value: str) -> str:
    text = sys.stdin.read().strip() if value == "-" else value.strip()
    if not text or not text.isascii() or not text.isprintable() or "/" in text:
        raise CommandError("that is not a token")
    return text


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    """What v3 and v2.0 both say, in one form."""
    issued = document.get("token", document)
    user = document.get("user", {})
    project = document.get("project") or issued.get("tenant") or {}
    roles = document.get("roles") or user.get("roles") or []
    return {
        "expires": issued.get("expires_at") or issued.get("expires"),
        "user": {"id": user.get("id"), "name": user.get("name")},
        "project": {"id": project.get("id"), "name": project.get("name")},
        "roles": [role.get("name") for role in roles],
    }


def _print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
