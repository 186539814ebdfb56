"""The HTTP client: signing in, retrying, and what errors say."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from heliometer.cli.access import Access
from heliometer.cli.client import ATTEMPTS, Client
from heliometer.cli.errors import CommandError
from heliometer.cli.responses import fault_message

ROOT = "http://server:8779"
ACCESS = Access(username="ann", password="pw", project="shop")
CATALOG_V3 = [
    {"type": "hpext:monitoring", "endpoints": [
        {"interface": "admin", "region": "a", "url": "http://admin/v1.1"},
        {"interface": "public", "region": "a", "url": f"{ROOT}/v1.1/"},
        {"interface": "public", "region": "b", "url": "http://other/v1.1"},
    ]},
]  # fmt: skip
VERSIONS = {"versions": {"values": [
    {"id": "v2.0", "links": [{"rel": "self", "href": f"{ROOT}/identity/v2.0/"}]},
    {"id": "v3.14", "links": [{"rel": "self", "href": f"{ROOT}/identity/v3/"}]},
]}}  # fmt: skip


class Service:
    """A server that signs in and then answers what the test says."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer = answer
        self.sign_ins: list[Any] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/identity":
            return httpx.Response(300, json=VERSIONS)
        if request.method == "POST" and path.endswith("/tokens"):
            self.sign_ins.append(json.loads(request.content))
            token = f"token-{len(self.sign_ins)}"
            if path == "/identity/v2.0/tokens":
                endpoint = {"region": "a", "publicURL": f"{ROOT}/v1.1"}
                service = {"type": "hpext:monitoring", "endpoints": [endpoint]}
                return httpx.Response(
                    200, json={"access": {"token": {"id": token}, "serviceCatalog": [service]}}
                )
            return httpx.Response(
                201, headers={"X-Subject-Token": token}, json={"token": {"catalog": CATALOG_V3}}
            )
        self.requests.append(request)
        return self.answer(request)

    def client(self, **access: Any) -> Client:
        from dataclasses import replace

        return Client(
            replace(ACCESS, auth_url=f"{ROOT}/identity", **access), httpx.MockTransport(self)
        )


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def ok(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=[])


@pytest.mark.parametrize("version", ["", "/v3", "/v2.0"])
def test_signs_in_and_uses_the_catalog(version: str) -> None:
    service = Service(ok)
    with service.client() as client:
        client.access = Access(
            username="ann", password="pw", project="shop", auth_url=f"{ROOT}/identity{version}"
        )
        assert client.get("/metrics", {"namespace": "n"}) == []
        client.get("/metrics")
    assert len(service.sign_ins) == 1
    request = service.requests[0]
    assert str(request.url) == f"{ROOT}/v1.1/metrics?namespace=n"
    assert request.headers["X-Auth-Token"] == "token-1"
    auth = service.sign_ins[0]["auth"]
    if version == "/v2.0":
        assert auth == {
            "tenantName": "shop", "passwordCredentials": {"username": "ann", "password": "pw"}
        }  # fmt: skip
    else:
        assert auth["scope"] == {"project": {"name": "shop", "domain": {"name": "Default"}}}
        assert auth["identity"]["password"]["user"]["name"] == "ann"


def test_region_and_url_choose_the_endpoint() -> None:
    service = Service(ok)
    with service.client(region="b") as client:
        assert client.session.endpoint == "http://other/v1.1"
    with service.client(url="http://mine:1/") as client:
        assert client.session.endpoint == "http://mine:1/v1.1"
    with service.client(region="c") as client, pytest.raises(CommandError, match="regions: a, b"):
        _ = client.session


def test_a_stale_token_is_renewed_once() -> None:
    def stale(request: httpx.Request) -> httpx.Response:
        fresh = request.headers["X-Auth-Token"] == "token-2"
        return httpx.Response(200, json=[]) if fresh else httpx.Response(401)

    service = Service(stale)
    with service.client() as client:
        assert client.get("/metrics") == []
    assert len(service.sign_ins) == 2
    service = Service(lambda _: httpx.Response(401))
    with service.client() as client, pytest.raises(CommandError, match="401"):
        client.get("/metrics")
    assert len(service.sign_ins) == 2


def test_a_retried_post_has_one_key(waits: list[float]) -> None:
    answers = [
        lambda: httpx.Response(503),
        lambda: httpx.Response(429, headers={"Retry-After": "7"}),
        None,
        lambda: httpx.Response(204),
    ]

    def overloaded(request: httpx.Request) -> httpx.Response:
        answer = answers.pop(0)
        if answer is None:
            raise httpx.ReadError("reset", request=request)
        return answer()

    service = Service(overloaded)
    with service.client() as client:
        client.post("/metrics", b"{}")
    keys = {request.headers["Idempotency-Key"] for request in service.requests}
    assert len(service.requests) == 4
    assert len(keys) == 1
    assert waits[1] == 7
    answers.append(lambda: httpx.Response(204))
    with service.client() as client:
        client.post("/metrics", b"{}")
    assert service.requests[-1].headers["Idempotency-Key"] not in keys


def test_gives_up_after_a_while(waits: list[float]) -> None:
    service = Service(lambda _: httpx.Response(503, json={"fault": {"faultstring": "Overloaded."}}))
    with service.client() as client, pytest.raises(CommandError, match=r"Overloaded\. \(503"):
        client.post("/metrics", b"{}")
    assert len(service.requests) == ATTEMPTS
    assert sum(waits) < 60


def test_a_server_that_is_not_there_is_said_at_once(waits: list[float]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused", request=request)

    client = Client(Access(username="a", password="b", project="c"), httpx.MockTransport(refuse))
    with pytest.raises(CommandError) as caught:
        client.get("/metrics")
    assert caught.value.message == (
        "no server answers at http://127.0.0.1:8779; start one with heliometer serve or use --url"
    )
    assert waits == []


@pytest.mark.parametrize("missing", ["username", "password", "project"])
def test_says_what_is_missing_to_sign_in(missing: str) -> None:
    service = Service(ok)
    with (
        service.client(**{missing: ""}) as client,
        pytest.raises(CommandError, match=f"given; use --{missing}"),
    ):
        _ = client.session


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"bad_request": {"code": 400, "message": "No.", "details": "Do."}}, "No. Do."),
        ({"error": {"code": 401, "message": "Who?", "title": "Unauthorized"}}, "Who?"),
        ({"fault": {"faultstring": "Later.", "detail": {"errorcode": "x"}}}, "Later."),
        (
            {"server_error": {"code": 500, "message": "Oh.", "internal_code": "r1"}},
            "Oh. See r1 in the server's log.",
        ),
        ({"error": "text"}, ""),
        ([], ""),
    ],
)
def test_faults_of_every_dialect(body: Any, message: str) -> None:
    assert fault_message(json.dumps(body).encode()) == message


def test_what_is_no_json() -> None:
    service = Service(lambda _: httpx.Response(200, text="<html>"))
    with service.client() as client, pytest.raises(CommandError, match="did not answer with JSON"):
        client.get("/metrics")
    assert fault_message(b"<html>") == ""
