"""A dialect needs nothing but its operations and its faults to be served and described."""

from ipaddress import ip_network
from unittest.mock import Mock

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response

from heliometer.core.errors import Code, HeliometerError
from heliometer.core.instruments import Instruments
from heliometer.http.answers import AnswerBudget
from heliometer.http.app import HttpApp, HttpOptions
from heliometer.http.limits import RateLimit
from heliometer.http.openapi import describe
from heliometer.http.operation import STATUS, Call, Dialect, Operation
from heliometer.http.proxies import TrustedProxies


class Greetings:
    """The handlers of a throw-away dialect."""

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation("GET", "", "List greetings", "here", self.find, media_type="text/plain"),
            Operation(
                "GET", "/{name}", "Greet somebody", "here", self.greet, media_type="text/plain"
            ),
        )

    async def find(self, _: Call) -> Response:
        return PlainTextResponse("hello")

    async def greet(self, call: Call) -> Response:
        name = call.path_params["name"]
        if name == "nobody":
            raise HeliometerError(Code.NOT_FOUND, "There is nobody.")
        if name == "trouble":
            raise RuntimeError("a mistake of ours")
        return PlainTextResponse(f"hello {name}")


def render_fault(error: HeliometerError, request_id: str) -> Response:
    return PlainTextResponse(f"{error.code.value} {request_id}", STATUS[error.code])


GREETINGS = Dialect("greetings", "Greetings", "/hello", Greetings().operations(), render_fault)
ROOT = Dialect("root", "Root", "", (), lambda error, _: Response(status_code=STATUS[error.code]))


@pytest.fixture
def client() -> httpx.AsyncClient:
    options = HttpOptions(
        body_bytes=1000,
        bodies_bytes=1000,
        answers=AnswerBudget(1000, 1000),
        rate_limit=RateLimit(0, lambda: 0.0),
        proxies=TrustedProxies([ip_network("127.0.0.1")]),
        hsts_s=3600,
    )
    app = HttpApp([ROOT, GREETINGS], Mock(), options, Instruments())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


@pytest.mark.parametrize(("url", "proto", "told"), [
    ("http://here", "", False), ("https://here", "", True), ("http://here", "https", True),
    ("https://here", "http", False),
])  # fmt: skip
async def test_browsers_keep_to_tls_once_they_came_through_it(
    client: httpx.AsyncClient, url: str, proto: str, told: bool
) -> None:
    headers = {"X-Forwarded-Proto": proto} if proto else {}
    for path in ("/hello", "/hello/none/there", "/"):
        reply = await client.get(f"{url}{path}", headers=headers)
        assert reply.headers.get("strict-transport-security") == ("max-age=3600" if told else None)


async def test_its_operations_answer(client: httpx.AsyncClient) -> None:
    assert (await client.get("/hello")).text == "hello"
    assert (await client.get("/hello/")).text == "hello"
    assert (await client.get("/hello/you")).text == "hello you"
    assert (await client.head("/hello/you")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/hello/nobody", 404, "not_found"),
        ("GET", "/hello/a/b", 404, "not_found"),
        ("POST", "/hello/you", 405, "method_not_allowed"),
        ("GET", "/hello/trouble", 500, "internal"),
    ],
)
async def test_its_faults_are_its_own(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    reply = await client.request(method, path)
    assert (reply.status_code, reply.text.split()[0]) == (status, code)
    assert reply.headers["x-request-id"] in reply.text


async def test_what_it_may_not_answer_with_is_refused(client: httpx.AsyncClient) -> None:
    reply = await client.get("/hello", headers={"Accept": "application/xml"})
    assert reply.status_code == 406


async def test_other_paths_are_the_root_s(client: httpx.AsyncClient) -> None:
    reply = await client.get("/elsewhere")
    assert (reply.status_code, reply.text) == (404, "")


def test_it_is_described() -> None:
    paths = describe([ROOT, GREETINGS])["paths"]
    assert list(paths) == ["/hello", "/hello/{name}"]
    assert paths["/hello/{name}"]["get"]["summary"] == "Greet somebody"
