"""Guessing over a real socket is slowed, however many try at once."""

import asyncio
from pathlib import Path

import httpx

from conftest import RunningServer, embedded_only


@embedded_only
def test_guesses_at_once(fresh_server: RunningServer) -> None:
    url = fresh_server.start().url
    token = fresh_server.token()

    async def guess(client: httpx.AsyncClient, password: str) -> httpx.Response:
        credentials = {"username": "demo", "password": password}
        body = {"auth": {"passwordCredentials": credentials}}
        return await client.post(f"{url}/identity/v2.0/tokens", json=body, timeout=30)

    async def guess_often() -> list[httpx.Response]:
        async with httpx.AsyncClient() as client:
            return await asyncio.gather(*(guess(client, f"guess {i}") for i in range(60)))

    replies = asyncio.run(guess_often())
    statuses = [reply.status_code for reply in replies]
    assert (statuses.count(401), statuses.count(429)) == (5, 55)
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.json()["error"]["title"] == "Too Many Requests"
    # Who is signed in already does not notice.
    mine = {"X-Auth-Token": token}
    assert httpx.get(f"{url}/identity/v2.0/tenants", headers=mine).status_code == 200
    assert "guess 1" not in fresh_server.log()


@embedded_only
def test_a_proxys_clients_are_slowed_one_by_one(tmp_path: Path) -> None:
    """Guessing through a proxy that is trusted does not slow its other clients."""
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_SERVER_TRUSTED_PROXIES": "127.0.0.1",
    }
    running = RunningServer(tmp_path / "var", environment).start()

    def guess(client: str) -> int:
        body = {"auth": {"passwordCredentials": {"username": "demo", "password": "guess"}}}
        headers = {"X-Forwarded-For": f"203.0.113.1, {client}"}
        url = f"{running.url}/identity/v2.0/tokens"
        return httpx.post(url, json=body, headers=headers).status_code

    try:
        assert [guess("198.51.100.7") for _ in range(6)] == [401] * 5 + [429]
        assert guess("198.51.100.8") == 401
        assert '"client": "198.51.100.7"' in running.log()
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "m.example.org"}
        links = httpx.get(running.url, headers=headers).text
        assert "https://m.example.org/" in links
        assert running.url not in links
    finally:
        running.stop()


@embedded_only
def test_nobody_speaks_for_others_unless_trusted(fresh_server: RunningServer) -> None:
    url = fresh_server.start().url
    body = {"auth": {"passwordCredentials": {"username": "demo", "password": "guess"}}}
    statuses = [
        httpx.post(
            f"{url}/identity/v2.0/tokens", json=body, headers={"X-Forwarded-For": f"198.51.100.{n}"}
        ).status_code
        for n in range(6)
    ]
    assert statuses == [401] * 5 + [429]
    assert "198.51.100" not in fresh_server.log()
