"""Changing one's own password, as Keystone's API has it, in the console and by command."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from conftest import PASSWORD, RunningServer, embedded_only
from console.visitor import Visitor

NEW = "an entirely new one"


@pytest.fixture
def tenant(server: RunningServer) -> RunningServer:
    """A user of its own."""
    return server.tenant("reader")


@pytest.fixture
def user_id(tenant: RunningServer) -> str:
    """The user's id."""
    body = {"auth": {"passwordCredentials": {"username": tenant.username, "password": PASSWORD}}}
    reply = httpx.post(f"{tenant.url}/identity/v2.0/tokens", json=body).json()
    return str(reply["access"]["user"]["id"])


def change(tenant: RunningServer, user_id: str, original: str, password: object) -> httpx.Response:
    body = {"user": {"original_password": original, "password": password}}
    return httpx.post(f"{tenant.url}/identity/v3/users/{user_id}/password", json=body)


def works(tenant: RunningServer, token: str) -> bool:
    headers = {"X-Auth-Token": token}
    return httpx.get(f"{tenant.url}/v1.1/alarms", headers=headers).status_code == 200


def test_all_tokens_of_the_user_end_and_only_they(
    server: RunningServer, tenant: RunningServer, user_id: str
) -> None:
    tokens, other = [tenant.token(), tenant.token()], server.token()
    reply = change(tenant, user_id, PASSWORD, NEW)
    assert (reply.status_code, reply.content) == (204, b"")
    assert not any(works(tenant, token) for token in tokens)
    assert works(tenant, tenant.token(password=NEW))
    assert works(server, other)


def test_a_wrong_original_is_as_an_unknown_user(tenant: RunningServer, user_id: str) -> None:
    token = tenant.token()
    refused = [change(tenant, who, "wrong one", NEW) for who in (user_id, "0" * 32)]
    assert [reply.status_code for reply in refused] == [401, 401]
    assert refused[0].text == refused[1].text
    assert works(tenant, token)


@pytest.mark.parametrize("password", ["short", "password1", "", "x" * 2000, None, 12345678])
def test_what_breaks_a_rule_is_a_bad_request(
    tenant: RunningServer, user_id: str, password: object
) -> None:
    token = tenant.token()
    reply = change(tenant, user_id, PASSWORD, password)
    assert reply.status_code == 400
    assert reply.json()["error"]["title"] == "Bad Request"
    assert works(tenant, token)


def test_guessing_the_original_is_limited_as_signing_in(
    tenant: RunningServer, user_id: str
) -> None:
    statuses = [change(tenant, user_id, f"guess {i}", NEW).status_code for i in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    body = {"auth": {"passwordCredentials": {"username": tenant.username, "password": "a guess"}}}
    assert httpx.post(f"{tenant.url}/identity/v2.0/tokens", json=body).status_code == 429


@pytest.fixture
def visitor(tenant: RunningServer) -> Iterator[Visitor]:
    """The user, signed in to the console."""
    with Visitor(tenant.url) as anybody:
        assert anybody.sign_in(tenant.username, PASSWORD).status_code == 303
        yield anybody


@embedded_only
def test_the_console(tenant: RunningServer, visitor: Visitor) -> None:
    page = "/console/account/password"
    token = tenant.token()
    for fields, status, message in (
        ({"original": "wrong", "password": NEW, "again": NEW}, 403, "It is not your password."),
        ({"original": PASSWORD, "password": NEW, "again": "x"}, 422, "It differs"),
        ({"original": PASSWORD, "password": "password", "again": "password"}, 422, "leaked"),
    ):
        reply = visitor.send(page, **fields)
        assert reply.status_code == status
        assert message in reply.text
        assert NEW not in reply.text
    assert works(tenant, token)
    reply = visitor.send(page, original=PASSWORD, password=NEW, again=NEW)
    assert (reply.status_code, reply.headers["location"]) == (303, "/console/account")
    assert visitor.get("/console/account").status_code == 303, "the session has ended"
    assert not works(tenant, token)
    assert visitor.sign_in(tenant.username, NEW).status_code == 303
    assert "Your password is changed." in visitor.get("/console/account").text


@embedded_only
def test_the_command(tenant: RunningServer) -> None:
    def run(password: str, new: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HELIOM", "OS_"))}
        given = {"HELIOMETER_URL": tenant.url, "OS_USERNAME": tenant.username,
                 "OS_PROJECT_NAME": tenant.project, "OS_PASSWORD": password}  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "heliometer", "password", "--new-password-stdin"],
            input=new, capture_output=True, text=True, timeout=60, env={**clean, **given},
        )  # fmt: skip

    token = tenant.token()
    refused = run(PASSWORD, "letmein1")
    assert refused.returncode == 1
    assert re.fullmatch(r"heliometer: .*leaked.*\n", refused.stderr)
    assert works(tenant, token)
    assert run(PASSWORD, NEW).returncode == 0
    assert not works(tenant, token)
    assert run(PASSWORD, NEW).returncode == 1
    tenant.token(password=NEW)
