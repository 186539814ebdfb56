"""Notification methods and addresses over a socket: races, pages, and whatever else is sent."""

import asyncio
import email
import email.policy
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import RunningServer
from effort import effort
from eventually import eventually
from heliometer.notifications.code_budgets import TRIES
from mail_server import text_of

VALIDATE = "/v1.1/notification-addresses/validate"
FEW = settings(max_examples=effort(50, 3000), deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of their own: wrong codes count against everybody's budget too."""
    running = RunningServer(
        tmp_path_factory.mktemp("codes") / "var",
        {
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            # What the tests together ask for is no concern of any of them.
            "HELIOMETER_LIMITS_CODES_PER_HOUR": "100000",
            "HELIOMETER_LIMITS_CODES_PER_DAY": "100000",
            "HELIOMETER_LIMITS_CODES_PER_DAY_OVERALL": "1000000",
        },
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as connected:
        yield connected


@dataclass
class Tenant:
    """A project of one test's own and a client address of its own: what others spent of the
    budgets for wrong codes does not count."""

    server: RunningServer
    client: httpx.Client
    source: str

    @property
    def headers(self) -> dict[str, str]:
        """What tells the service who it is."""
        return {"X-Auth-Token": self.client.headers["X-Auth-Token"]}


sources = itertools.count(2)


@pytest.fixture
def tenant(server: RunningServer) -> Iterator[Tenant]:
    mine, source = server.tenant(), f"127.0.0.{next(sources)}"
    with httpx.Client(
        base_url=server.url,
        headers={"X-Auth-Token": mine.token()},
        transport=httpx.HTTPTransport(local_address=source),
    ) as connected:
        yield Tenant(mine, connected, source)


def received(server: RunningServer, address: str) -> tuple[str, str]:
    """The short and the long code of the mail to an address, once it is there."""

    def codes() -> list[str]:
        for file in (server.data_dir / "outbox" / "email" / "new").glob("*"):
            mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            if mail["To"] == address:
                return re.findall(r'"validation_code": "([\w-]+)"', text_of(mail))
        return []

    short, long = eventually(codes, why=lambda: f"no mail to {address}")
    return short, long


def ask(client: httpx.Client, address: str) -> str:
    fields = {"type": "EMAIL", "address": address}
    reply = client.post("/v1.1/notification-addresses", json={"notification_address": fields})
    assert reply.status_code == 201, reply.text
    assert reply.json()["notification_address"]["name"] == address
    address_id: str = reply.json()["notification_address"]["id"]
    return address_id


async def race(urls: list[str], count: int, tenant: Tenant, **post: Any) -> Counter[int]:
    """How often each status comes when so many post the same at once, dealt out over the URLs."""
    transport = httpx.AsyncHTTPTransport(
        limits=httpx.Limits(max_connections=100), local_address=tenant.source
    )
    async with httpx.AsyncClient(transport=transport, timeout=60) as racer:
        posts = (racer.post(urls[i % len(urls)] + VALIDATE, **post) for i in range(count))
        return Counter(reply.status_code for reply in await asyncio.gather(*posts))


@pytest.mark.parametrize("kind", ["short", "long"])
def test_a_hundred_at_once_with_the_right_code_get_one_204(tenant: Tenant, kind: str) -> None:
    address = f"{kind}@mail.com"
    address_id = ask(tenant.client, address)
    short, long = received(tenant.server, address)
    code, headers = (short, tenant.headers) if kind == "short" else (long, {})
    # That a code was right once, each process knows for itself (docs/decisions/0011).
    (url, *_) = tenant.server.processes
    posted = {"json": {"validation_code": code}, "headers": headers}
    assert asyncio.run(race([url], 100, tenant, **posted)) == {204: 1, 404: 99}
    shown = tenant.client.get(f"/v1.1/notification-addresses/{address_id}").json()
    assert shown["notification_address"]["state"] == "verified"


@pytest.mark.parametrize("kind", ["short", "long"])
def test_a_code_is_good_once_in_all_processes_together(tenant: Tenant, kind: str) -> None:
    address = f"once-{kind}@mail.com"
    ask(tenant.client, address)
    short, long = received(tenant.server, address)
    code, headers = (short, tenant.headers) if kind == "short" else (long, {})
    urls = tenant.server.processes
    posted = {"json": {"validation_code": code}, "headers": headers}
    # As many as may be wrong: one that comes late never saw that it was right.
    count = TRIES
    assert asyncio.run(race(urls, count, tenant, **posted)) == {204: 1, 404: count - 1}


def test_a_short_code_says_nothing_without_a_token(tenant: Tenant) -> None:
    ask(tenant.client, "ann@mail.com")
    short, _ = received(tenant.server, "ann@mail.com")
    with httpx.Client(
        base_url=tenant.server.url, transport=httpx.HTTPTransport(local_address=tenant.source)
    ) as nobody:
        right, wrong = (
            nobody.post(VALIDATE, json={"validation_code": code}) for code in (short, "1234567890")
        )
    assert right.status_code == wrong.status_code == 404
    faults = [r.json()["not_found"] for r in (right, wrong)]
    assert faults[0]["message"] == faults[1]["message"]
    assert faults[0]["details"] == faults[1]["details"]
    assert tenant.client.post(VALIDATE, json={"validation_code": short}).status_code == 204


@pytest.mark.parametrize(("path", "element", "fields"), [
    ("/v1.1/notification-methods", "notification_method", {"name": "page"}),
    ("/v1.1/notification-addresses", "notification_address", {}),
])  # fmt: skip
def test_a_list_comes_whole_or_page_by_page(
    client: httpx.Client, path: str, element: str, fields: dict[str, str]
) -> None:
    for i in range(5):
        body = {element: {**fields, "type": "EMAIL", "address": f"page{i}@mail.com"}}
        assert client.post(path, json=body).status_code == 201
    plural = path.rpartition("/")[2].replace("-", "_")
    whole = client.get(path).json()
    assert set(whole) == {plural}
    pages: list[list[dict[str, Any]]] = []
    following = f"{path}?limit=2"
    while following:
        page = client.get(following).json()
        pages.append(page[plural])
        following = page["links"][0]["href"] if page["links"] else ""
    assert [entry for page in pages for entry in page] == whole[plural]
    assert all(len(page) == 2 for page in pages[:-1])


@pytest.mark.parametrize("path", [
    "/v1.1/notification-methods", "/v1.0/notification-methods", "/v1.1/notification-addresses",
    "/v1.1/notifications",
])  # fmt: skip
def test_a_marker_that_is_none_is_a_wrong_parameter(client: httpx.Client, path: str) -> None:
    reply = client.get(path, params={"limit": 2, "marker": "garbage"})
    assert reply.status_code == 400
    assert reply.json()["bad_request"]["message"].startswith("marker: ")


def test_v1_0_does_not_have_what_it_cannot_show(client: httpx.Client) -> None:
    body = {"notification_method": {"name": "n", "type": "WEBHOOK", "address": "https://x.se/"}}
    made = client.post("/v1.1/notification-methods", json=body).json()["notification_method"]
    path = f"/v1.0/notification-methods/{made['id']}"
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 404
    listed = client.get("/v1.0/notification-methods").json()["notification_methods"]
    assert made["id"] not in [m["id"] for m in listed]
    assert client.get(path.replace("v1.0", "v1.1")).status_code == 200


def test_a_method_of_v1_0_is_mailed_its_code(tenant: Tenant) -> None:
    method = {"name": "Ann", "type": "EMAIL", "address": "ann.of.v1.0@mail.com"}
    created = tenant.client.post("/v1.0/notification-methods", json={"notification_method": method})
    assert created.status_code == 201
    _, long = received(tenant.server, method["address"])
    assert tenant.client.post(VALIDATE, json={"validation_code": long}).status_code == 204
    path = "/v1.1/notification-addresses"
    (address,) = tenant.client.get(path).json()["notification_addresses"]
    assert (address["address"], address["state"]) == (method["address"], "verified")


def test_the_description_shows_that_validating_knows_both_ways(server: RunningServer) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    assert paths[VALIDATE]["post"]["security"] == [{"token": []}, {}]


texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["EMAIL", "SMS", "WEBHOOK", "APPRISE", "joe@mail.com", "+12063823454",
                     "x" * 251, "https://x.se", "http://[::1", "\0", "\ud800", "a\r\nb",
                     "0123456789"]),
)  # fmt: skip
values = st.one_of(
    texts, st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400),
    st.lists(texts, max_size=2), st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip
fields = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("name", "type", "address", "colour"), values)
)


@FEW
@given(
    st.sampled_from(["methods", "addresses"]),
    st.sampled_from(["v1.1", "v1.0"]),
    st.one_of(fields, values),
)
def test_any_fields_get_an_answer(
    client: httpx.Client, what: str, version: str, given: Any
) -> None:
    element = "notification_method" if what == "methods" else "notification_address"
    body = json.dumps({element: given}).encode()
    path = f"/{version}/notification-{what}"
    reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
    if version == "v1.0" and what == "addresses":
        assert reply.status_code == 404, "v1.0 has no addresses"
    else:
        assert reply.status_code in (201, 400, 429), reply.text


@FEW
@given(values)
def test_any_code_gets_an_answer(client: httpx.Client, code: Any) -> None:
    body = json.dumps({"validation_code": code}).encode()
    reply = client.post(VALIDATE, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 404, 429), reply.text
    assert (reply.status_code == 429) == ("Retry-After" in reply.headers)
