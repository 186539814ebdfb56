"""Guessing over a real socket is slowed, however many try at once."""

import asyncio

import httpx

from conftest import RunningServer


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
