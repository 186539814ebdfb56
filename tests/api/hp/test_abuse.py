"""What a hostile day may cost: codes, test messages and tokens, over a socket."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from conftest import PASSWORD, RunningServer, embedded_only

RESCOPES = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Nobody else spends what its tests spend; they have projects of their own."""
    folder: Path = tmp_path_factory.mktemp("abuse") / "var"
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_LIMITS_RESCOPES_PER_HOUR": str(RESCOPES),
    }
    running = RunningServer(folder, environment).start()
    yield running
    assert running.stop() == 0


def refused(reply: httpx.Response) -> str:
    """What a refusal of v1.1 says."""
    assert reply.status_code == 429, reply.text
    assert 3500 < int(reply.headers["Retry-After"]) <= 3600
    fault = reply.json()["rate_limited"]
    assert fault["code"] == 429
    message: str = fault["message"]
    return message


def refusals(server: RunningServer, budget: str) -> float:
    """How often a budget refused something, as the service's metrics say."""
    start = f'heliometer_refusals_total{{budget="{budget}"}} '
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


@embedded_only
@pytest.mark.reliability(18)
def test_sixty_numbers_in_a_row_get_a_project_s_share_of_codes(server: RunningServer) -> None:
    before = refusals(server, "code_project_hour")
    mine = server.tenant()
    with mine.client() as client:
        replies = [
            client.post(
                "/v1.1/notification-addresses",
                json={"notification_address": {"type": "SMS", "address": f"+1206382{3000 + i}"}},
            )
            for i in range(60)
        ]
        listed = client.get("/v1.1/notification-addresses").json()["notification_addresses"]
    assert [reply.status_code for reply in replies] == [201] * 20 + [429] * 40
    assert refused(replies[-1]) == "The project has sent 20 validation codes within the last hour."
    assert len(listed) == 20, "what is refused leaves nothing behind"
    assert refusals(server, "code_project_hour") == before + 40
    with server.client() as neighbour:
        fields = {"type": "SMS", "address": "+12063824000"}
        body = {"notification_address": fields}
        assert neighbour.post("/v1.1/notification-addresses", json=body).status_code == 201


@pytest.mark.reliability(18)
def test_one_mailbox_gets_three_codes_however_it_is_written(server: RunningServer) -> None:
    name = f"joe-{uuid4().hex[:8]}"
    addresses = [f"{name}@mail.com", f"{name}+1@mail.com", f"{name.upper()}@Mail.com"]
    statuses = []
    with server.client() as demo, server.tenant().client() as other:
        for i, address in enumerate([*addresses, f"{name}+2@mail.com"]):
            body = {"notification_address": {"type": "EMAIL", "address": address}}
            reply = (demo, other)[i % 2].post("/v1.1/notification-addresses", json=body)
            statuses.append(reply.status_code)
    assert statuses == [201, 201, 201, 429]
    assert refused(reply) == "3 codes were sent to this address within the last hour."


def test_test_messages_are_limited(server: RunningServer) -> None:
    with server.client() as client:
        fields = {"name": "n", "type": "WEBHOOK", "address": f"https://{uuid4().hex}.example.org/"}
        made = client.post("/v1.1/notification-methods", json={"notification_method": fields})
        path = f"/v1.1/notification-methods/{made.json()['notification_method']['id']}/test"
        replies = [client.post(path) for _ in range(11)]
    assert [reply.status_code < 300 for reply in replies] == [True] * 10 + [False]
    assert "10 test messages" in refused(replies[-1])


def test_tokens_are_not_made_of_tokens_without_end(server: RunningServer) -> None:
    mine = server.tenant()
    token = mine.token()
    scope = {"project": {"name": mine.project, "domain": {"id": "default"}}}
    identity = {"methods": ["token"], "token": {"id": token}}
    bodies = {
        "v2.0/tokens": {"auth": {"tenantName": mine.project, "token": {"id": token}}},
        "v3/auth/tokens": {"auth": {"identity": identity, "scope": scope}},
    }
    replies = [
        httpx.post(f"{server.url}/identity/{path}", json=body)
        for path, body in [*bodies.items()] * (RESCOPES // 2 + 1)
    ]
    made = [reply.status_code < 300 for reply in replies]
    assert made == [True] * RESCOPES + [False] * (len(made) - RESCOPES)
    assert replies[-1].status_code == 429
    assert replies[-1].json()["error"]["title"] == "Too Many Requests"
    assert 3500 < int(replies[-1].headers["Retry-After"]) <= 3600
    assert mine.token(), "who has the password signs in as ever"


@pytest.mark.parametrize("path", ["/v1.1/metering", "/v2/meters", "/identity/v3/auth/tokens"])
@pytest.mark.reliability(17)
def test_what_is_no_token_opens_nothing(server: RunningServer, path: str) -> None:
    token, revoked = server.token(), server.token()
    own = {"X-Auth-Token": revoked, "X-Subject-Token": revoked}
    reply = httpx.delete(f"{server.url}/identity/v3/auth/tokens", headers=own)
    assert reply.status_code == 204

    def get(*tokens: str) -> httpx.Response:
        headers = [(b"X-Auth-Token", each.encode("latin-1")) for each in tokens]
        headers.append((b"X-Subject-Token", token.encode()))
        return httpx.get(f"{server.url}{path}", headers=headers)

    assert get(token).status_code == 200
    # Validating another's token is for whoever may; here everybody asks for the own one.
    for wrong in ("", "garbage", "x" * 43, token[:-1], token + "A", "x" * 9000, "\xff" * 43):
        assert get(wrong).status_code == 401, wrong[:50]
    assert get().status_code == get(token, token).status_code == 401
    assert get(revoked).status_code == 401
    assert get("x" * 70_000).status_code == 431


@pytest.mark.reliability(17)
def test_a_token_of_a_mebibyte_is_refused_without_being_read(server: RunningServer) -> None:
    with server.client() as client:
        try:
            reply = client.get("/v1.1/metering", headers={"X-Auth-Token": "x" * (1 << 20)})
        except httpx.TransportError:
            pass  # the connection closed before all of it was sent
        else:
            assert reply.status_code == 431
        assert client.get("/v1.1/metering").status_code == 200
    assert PASSWORD not in server.log()
