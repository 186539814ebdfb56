"""What the service says of itself: documentation, OpenAPI, figures."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from api.people import People
from conftest import embedded_only

JSON = {"Content-Type": "application/json"}
METHODS = {"get", "head", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def openapi(people: People) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{people.server.url}/openapi.json").json()
    return document


def operations(openapi: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in openapi["paths"].items()
        for method, operation in item.items()
    ]


def test_the_description_names_every_documented_operation(openapi: dict[str, Any]) -> None:
    described = {f"{method.upper()} {path}" for path, method, _ in operations(openapi)}
    assert described >= {
        "GET /", "GET /v1.1", "GET /v1.0",
        "POST /v1.1/metrics", "POST /v1.1/metrics/aggregate", "GET /v1.1/metrics",
        "GET /v1.1/metrics/series", "POST /v1.1/metering", "GET /v1.1/metering",
        "GET /v2/health", "HEAD /v2/health", "GET /docs", "GET /openapi.json", "GET /metrics",
        "POST /identity/v2.0/tokens", "POST /identity/v3/auth/tokens",
    }  # fmt: skip


def test_the_description_is_sound(openapi: dict[str, Any], people: People) -> None:
    assert openapi["openapi"].startswith("3.1.")
    assert openapi["servers"] == [{"url": people.server.url}]
    names = [operation["operationId"] for _, _, operation in operations(openapi)]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in openapi["tags"]}
    for path, method, operation in operations(openapi):
        where = f"{method} {path}"
        assert method in METHODS, where
        assert set(operation["tags"]) <= tags, where
        assert any(status[0] in "23" for status in operation["responses"]), where
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), where
        for response in operation["responses"].values():
            assert response["description"], where
        if operation["security"] and {} not in operation["security"]:
            assert {"401", "403"} <= set(operation["responses"]), where


def test_every_reference_in_the_description_leads_somewhere(openapi: dict[str, Any]) -> None:
    references = re.findall(r'"\$ref":\s*"([^"]+)"', json.dumps(openapi))
    assert references
    for reference in references:
        place: Any = openapi
        for step in reference.removeprefix("#/").split("/"):
            assert step in place, reference
            place = place[step]


def test_what_the_description_guards_is_guarded(openapi: dict[str, Any], people: People) -> None:
    with httpx.Client(base_url=people.server.url) as client:
        for path, method, operation in operations(openapi):
            if operation["security"] == [{"token": []}]:
                reply = client.request(method.upper(), re.sub(r"{\w+}", "x", path))
                assert reply.status_code == 401, f"{method} {path}"


def test_the_examples_in_the_description_work(openapi: dict[str, Any], people: People) -> None:
    tried, yesterday = 0, time.gmtime(time.time() - 86_400)
    with people.client("admin") as client:
        endpoint: str = client.post("/v1.1/endpoints").json()["endpoint"]["id"]
        for path, method, operation in operations(openapi):
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if "{" in path:
                continue
            if operation["security"] == [{"token": []}] and content and "example" in content:
                text = json.dumps(content["example"])
                # Nothing older may be asked for: the example's day moves along.
                text = text.replace(
                    "2026-11-20T00:00Z", time.strftime("%Y-%m-%dT00:00Z", yesterday)
                )
                text = re.sub(r'"endpoint_id": "[^"]*"', f'"endpoint_id": "{endpoint}"', text)
                reply = client.request(method.upper(), path, content=text, headers=JSON)
                assert str(reply.status_code) in operation["responses"], f"{method} {path}"
                assert reply.is_success, reply.text
                tried += 1
        client.delete(f"/v1.1/endpoints/{endpoint}")
    assert tried >= 2


class Page(HTMLParser):
    """Collects what a browser would follow, run or show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(people: People, host: str | None = None) -> Page:
    headers = {"Host": host} if host else {}
    reply = httpx.get(f"{people.server.url}/docs", headers=headers)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    page = Page()
    page.feed(reply.text)
    return page


def test_the_page_shows_every_operation(people: People, openapi: dict[str, Any]) -> None:
    page = page_of(people)
    assert "script" not in page.tags
    for path, _, operation in operations(openapi):
        assert path in page.text
        assert operation["summary"] in page.text
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} == set(page.ids)
    assert people.server.url in page.text


@pytest.mark.parametrize(
    "host", ['"><script>alert(1)</script>', "x'; rm -rf /; '", "{{7*7}}", "a&lt;b"]
)
@pytest.mark.reliability(22)
def test_the_page_escapes_what_the_client_says(people: People, host: str) -> None:
    page = page_of(people, host)
    assert "script" not in page.tags
    assert host in page.text


def figure(people: People, name: str) -> float:
    text = httpx.get(f"{people.server.url}/metrics").text
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)
    )


@embedded_only  # each process counts what it did
def test_figures_count_requests_measurements_and_series(people: People) -> None:
    posts = 'heliometer_http_requests_total{dialect="hp-v1.1",operation="Create a new metric"'
    names = ["heliometer_measurements_total", "heliometer_series", posts,
             "heliometer_commit_duration_seconds_count"]  # fmt: skip
    before = [figure(people, name) for name in names]
    metric = {"namespace": "figures", "time_values": [[0, 1], [0, 2]]}
    with people.client() as client:
        assert client.post("/v1.1/metrics", json=metric).status_code == 204
        assert client.post("/v1.1/metrics", json={}).status_code == 422
    after = [figure(people, name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 2, 1]
    assert figure(people, posts + ',status="422"') >= 1
    assert figure(people, "heliometer_pending_measurements") == 0
    assert figure(people, "heliometer_disk_free_bytes") > 0


def test_figures_are_in_prometheus_text_form_and_hold_nothing_of_a_project(
    people: People,
) -> None:
    with people.client() as client:
        client.post("/v1.1/metrics", json={"namespace": "figures.secret", "value": 1})
    reply = httpx.get(f"{people.server.url}/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    kinds = dict(re.findall(r"# TYPE (heliometer_\w+) (\w+)", reply.text))
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total")
    }
    for line in reply.text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|[a-zA-Z_:]\w*({.*})? \S+", line)
    for secret in ("figures.secret", *people.projects.values(), people.token("member")):
        assert secret not in reply.text


def test_figures_are_open_metrics_for_whoever_asks(people: People) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1"
    reply = httpx.get(f"{people.server.url}/metrics", headers={"Accept": accept})
    assert reply.status_code == 200
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.text.endswith("# EOF\n")
    parsed = text_string_to_metric_families(reply.text)  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    assert families["heliometer_http_requests"].type == "counter"
    assert families["heliometer_series"].type == "gauge"


@embedded_only  # as the first table of the page says
def test_figures_have_the_names_that_the_documentation_says(people: People) -> None:
    page = (Path(__file__).parents[3] / "docs" / "service-metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(heliometer_\w+)` \| (\w+) \|", page, re.MULTILINE))
    text = httpx.get(f"{people.server.url}/metrics").text
    served = dict(re.findall(r"# TYPE (heliometer_\w+) (\w+)", text))
    elsewhere = tuple(
        f"heliometer_{name}"
        for name in ("collector_", "statsd_", "libvirt_", "parts_", "members", "cluster_")
    )
    assert "heliometer_measurements_total" in documented
    for name, kind in documented.items():
        if not name.startswith(elsewhere):
            assert served.get(name) == kind, name
