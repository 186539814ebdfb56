"""Alarms in Telemetry's form, and how they look from the other dialects."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.people import People
from conftest import RunningServer
from effort import effort
from eventually import eventually

RULE = {
    "meter_name": "sales",
    "comparison_operator": "gt",
    "threshold": 5.0,
    "statistic": "max",
    "period": 60,
    "evaluation_periods": 1,
    "query": [],
    "exclude_outliers": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(
        tmp_path_factory.mktemp("v2alarms") / "var",
        {"HELIOMETER_COLLECTOR_ENABLED": "false", "HELIOMETER_WEBHOOK_ALLOW_PRIVATE": "true"},
    ).start()
    with running.client() as client:
        for namespace, key, value in (
            ("shop", "resource_id", "till-1"),
            ("market", "resource_id", "till-9"),
        ):
            dimensions = {"metric_name": "sales", key: value}
            post(client, namespace, dimensions, 1)
        post(client, "hosts", {"metric_name": "load", "instance_id": "i-1"}, 1)
        post(client, "bare", {}, 1)
    yield running
    assert running.stop() == 0


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as connected:
        yield connected
        for alarm in connected.get("/v2/alarms").json():
            connected.delete(f"/v2/alarms/{alarm['alarm_id']}")


def post(client: httpx.Client, namespace: str, dimensions: dict[str, str], value: float) -> None:
    body = {"namespace": namespace, "dimensions": dimensions, "value": value}
    assert client.post("/v1.1/metrics", json=body).status_code == 204


def made(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    rule = RULE | fields.pop("rule", {})
    given = {"name": "a", "type": "threshold", "threshold_rule": rule} | fields
    reply = client.post("/v2/alarms", json=given)
    assert reply.status_code == 201, reply.text
    alarm: dict[str, Any] = reply.json()
    return alarm


@pytest.mark.parametrize(
    ("rule", "expression"),
    [
        ({}, "max(shop{metric_name=sales}) > 5 or max(market{metric_name=sales}) > 5"),
        (
            {"query": [{"field": "namespace", "value": "shop"}], "period": 300},
            "max(shop{metric_name=sales}, 300) > 5",
        ),
        (
            {"query": [{"field": "namespace", "value": "shop"},
                       {"field": "resource_id", "op": "eq", "value": "till-1"}],
             "evaluation_periods": 3, "comparison_operator": "le", "statistic": "avg"},
            "avg(shop{metric_name=sales, resource_id=till-1}) <= 5 times 3",
        ),
        (
            {"meter_name": "load", "query": [{"field": "resource", "value": "i-1"}]},
            "max(hosts{instance_id=i-1, metric_name=load}) > 5",
        ),
        (
            {"meter_name": "bare", "query": [{"field": "metadata.floor", "value": "2"}]},
            "max(bare{floor=2}) > 5",
        ),
        ({"meter_name": "unheard"}, "max(custom{metric_name=unheard}) > 5"),
    ],
)  # fmt: skip
def test_a_rule_becomes_an_expression(
    client: httpx.Client, rule: dict[str, Any], expression: str
) -> None:
    alarm = made(client, rule=rule)
    assert alarm["expression"] == expression
    assert (
        alarm["threshold_rule"].items()
        >= (RULE | rule | {"query": alarm["threshold_rule"]["query"]}).items()
    )
    shown = client.get(f"/v1.1/alarms/{alarm['alarm_id']}").json()["alarm"]
    assert shown["expression"] == expression


def test_an_alarm_has_everything_that_clients_look_for(client: httpx.Client) -> None:
    alarm = made(client, severity="moderate", description="d", repeat_actions=True)
    assert alarm == {
        **{key: alarm[key] for key in ("alarm_id", "project_id", "user_id", "timestamp",
                                       "state_timestamp", "expression")},
        "name": "a", "description": "d", "enabled": True, "severity": "moderate",
        "state": "insufficient data", "type": "threshold", "repeat_actions": True,
        "time_constraints": [], "threshold_rule": RULE, "alarm_actions": [], "ok_actions": [],
        "insufficient_data_actions": [],
    }  # fmt: skip
    assert client.get(f"/v2/alarms/{alarm['alarm_id']}").json() == alarm
    assert client.get("/v2/alarms").json() == [alarm]


def test_it_goes_off_and_calls_the_url(client: httpx.Client) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    called: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            called.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=hook.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{hook.server_port}/hook"
    alarm = made(
        client,
        rule={"query": [{"field": "resource_id", "value": "till-1"},
                        {"field": "namespace", "value": "shop"}]},
        alarm_actions=[url],
    )  # fmt: skip
    again = made(client, name="b", rule={"threshold": 1e9}, alarm_actions=[url, url])
    assert alarm["alarm_actions"] == [url]
    assert again["alarm_actions"] == [url]
    methods = client.get("/v1.1/notification-methods").json()["notification_methods"]
    assert [m["address"] for m in methods] == [url], "one method, however many alarms"
    post(client, "shop", {"metric_name": "sales", "resource_id": "till-1"}, 9)
    eventually(lambda: called)
    hook.shutdown()
    hook.server_close()
    assert client.get(f"/v2/alarms/{alarm['alarm_id']}/state").json() == "alarm"
    history = client.get(f"/v2/alarms/{alarm['alarm_id']}/history").json()
    assert [(c["type"], json.loads(c["detail"])) for c in history] == [
        ("state transition", {"state": "alarm"}),
        ("creation", {"name": "a", "type": "threshold"}),
    ]


def test_the_state_can_be_set(client: httpx.Client) -> None:
    alarm_id = made(client)["alarm_id"]
    for state in ("ok", "alarm", "alarm", "insufficient data"):
        reply = client.put(f"/v2/alarms/{alarm_id}/state", json=state)
        assert (reply.status_code, reply.json()) == (200, state)
        assert client.get(f"/v2/alarms/{alarm_id}").json()["state"] == state
    assert client.put(f"/v2/alarms/{alarm_id}/state", json="fine").status_code == 400
    assert made(client, name="b", state="ok")["state"] == "ok"


def test_a_combination_joins_other_alarms(client: httpx.Client) -> None:
    shop = {"query": [{"field": "namespace", "value": "shop"}]}
    one, two = made(client, rule=shop), made(client, name="b", rule={**shop, "threshold": 9})
    rule = {"alarm_ids": [one["alarm_id"], two["alarm_id"]], "operator": "and"}
    both = client.post(
        "/v2/alarms", json={"name": "c", "type": "combination", "combination_rule": rule}
    ).json()
    assert both["combination_rule"] == rule
    assert (
        both["expression"]
        == "max(shop{metric_name=sales}) > 5 and max(shop{metric_name=sales}) > 9"
    )
    assert both["threshold_rule"]["meter_name"] == "sales", "clients crash without one"


def test_an_update_takes_the_whole_or_a_part(client: httpx.Client) -> None:
    alarm = made(client)
    path = f"/v2/alarms/{alarm['alarm_id']}"
    part = client.put(path, json={"name": "b", "threshold_rule": {"threshold": 8}}).json()
    assert (part["name"], part["threshold_rule"]) == ("b", RULE | {"threshold": 8.0})
    whole = client.put(path, json={**part, "enabled": False, "severity": "critical"}).json()
    assert (whole["enabled"], whole["severity"]) == (False, "critical")
    assert whole["expression"] == part["expression"]


def test_what_was_defined_elsewhere_is_not_cut_down_to_a_rule(client: httpx.Client) -> None:
    expression = "max(shop{metric_name=sales}) > 5 and count(market) < 3"
    fields = {"name": "v1.1", "expression": expression}
    alarm_id = client.post("/v1.1/alarms", json={"alarm": fields}).json()["alarm"]["id"]
    alarm = client.get(f"/v2/alarms/{alarm_id}").json()
    assert alarm["expression"] == expression
    assert alarm["threshold_rule"]["meter_name"] == "sales"
    kept = client.put(f"/v2/alarms/{alarm_id}", json={**alarm, "name": "renamed"}).json()
    assert (kept["name"], kept["expression"]) == ("renamed", expression)
    changed = client.put(f"/v2/alarms/{alarm_id}", json={"threshold_rule": {"threshold": 6}}).json()
    assert changed["expression"] == "max(shop{metric_name=sales}) > 6"
    patched = {"alarm": {"expression": "shop > 1"}}
    assert client.patch(f"/v1.1/alarms/{alarm_id}", json=patched).status_code == 200
    assert client.get(f"/v2/alarms/{alarm_id}").json()["threshold_rule"]["threshold"] == 1


def test_lists_are_filtered(client: httpx.Client) -> None:
    made(client, state="ok")
    made(client, name="b", enabled=False, rule={"meter_name": "load"})
    for field, value, names in (
        ("name", "a", ["a"]), ("state", "ok", ["a"]), ("enabled", "False", ["b"]),
        ("meter", "load", ["b"]), ("type", "threshold", ["a", "b"]),
        ("severity", "low", ["a", "b"]),
    ):  # fmt: skip
        found = client.get("/v2/alarms", params={"q.field": field, "q.value": value}).json()
        assert [a["name"] for a in found] == names
    assert client.get("/v2/alarms", params={"q.field": "x", "q.value": "y"}).status_code == 400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": None}, "name: expected str"),
        ({"type": "event"}, "Invalid alarm type 'event'"),
        ({"type": "combination"}, "combination_rule must be set for combination type alarm"),
        ({"threshold_rule": None}, "threshold_rule must be set for threshold type alarm"),
        ({"threshold_rule": RULE | {"statistic": "stddev"}}, "Invalid statistic 'stddev'"),
        ({"threshold_rule": RULE | {"comparison_operator": "eq"}}, "'eq': is not supported"),
        ({"threshold_rule": RULE | {"comparison_operator": "=="}}, "Invalid comparison_operator"),
        ({"threshold_rule": RULE | {"period": 90}}, "multiple of 60"),
        ({"threshold_rule": RULE | {"period": 0}}, "multiple of 60"),
        ({"threshold_rule": RULE | {"evaluation_periods": 0}}, "evaluation_periods"),
        ({"threshold_rule": RULE | {"evaluation_periods": 10**6}}, "weeks"),
        ({"threshold_rule": RULE | {"threshold": "high"}}, "threshold: expected float"),
        ({"threshold_rule": RULE | {"query": [{"field": "colour", "value": "x"}]}}, "Unrecognized"),
        ({"threshold_rule": RULE | {"query": [{"field": "name", "op": "gt", "value": "x"}]}},
         "Unimplemented operator 'gt'"),
        ({"severity": "dire"}, "Invalid severity 'dire'"),
        ({"state": "fine"}, "Invalid state 'fine'"),
        ({"time_constraints": [{"name": "x"}]}, "time_constraints are not supported"),
        ({"alarm_actions": ["nobody"]}, "there is no notification method"),
        ({"alarm_actions": ["http://"]}, "address"),
        ({"type": "combination", "combination_rule": {"alarm_ids": ["x", "x"]}}, "at least two"),
        ({"type": "combination", "combination_rule": {"alarm_ids": ["x", "y"]}}, "x Not Found"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_nothing_is_stored(
    client: httpx.Client, fields: dict[str, Any], message: str
) -> None:
    given = {"name": "a", "type": "threshold", "threshold_rule": RULE} | fields
    reply = client.post("/v2/alarms", json=given)
    assert reply.status_code == 400, reply.text
    assert message in reply.json()["error"]["message"]
    assert client.get("/v2/alarms").json() == []


@pytest.mark.reliability(16)
def test_another_projects_alarm_is_as_one_that_is_not(people: People) -> None:
    with people.client() as client, people.client("stranger") as stranger:
        alarm_id = made(client, name="theirs")["alarm_id"]
        for method, path in (
            ("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/state"), ("PUT", "/state"),
            ("GET", "/history"),
        ):  # fmt: skip
            body = {"json": "ok" if path else {"name": "x"}} if method == "PUT" else {}
            texts = set()
            for each in (alarm_id, "0" * 36):
                reply = stranger.request(method, f"/v2/alarms/{each}{path}", **body)  # type: ignore[arg-type]
                assert reply.status_code == 404
                texts.add(reply.text.replace(each, "ID"))
            assert len(texts) == 1
        with people.client("reader") as reader:
            assert reader.get(f"/v2/alarms/{alarm_id}").status_code == 200
            assert reader.delete(f"/v2/alarms/{alarm_id}").status_code == 403
        client.delete(f"/v2/alarms/{alarm_id}")


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
pairs = st.lists(
    st.tuples(
        st.sampled_from(["q.field", "q.op", "q.type", "q.value", "q", "page", "per_page", "limit",
                         "period", "groupby", "aggregate.func", "aggregate.param", "unique"]),
        st.one_of(
            st.sampled_from(["timestamp", "resource_id", "metadata.x", "ge", "eq", "datetime",
                             "2026-11-20T00:00", "cardinality", "1", "0", "-1", "9" * 30, "NaN"]),
            st.text(max_size=10),
        ),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=effort(50, 3000), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pairs,
    st.sampled_from(["/v2/meters", "/v2/meters/x", "/v2/meters/x/statistics", "/v2/samples",
                     "/v2/samples/1-1-1", "/v2/resources", "/v2/resources/x", "/v2/alarms"]),
)  # fmt: skip
def test_whatever_is_asked_is_answered(
    server: RunningServer, query: list[tuple[str, str]], path: str
) -> None:
    with server.client() as client:
        reply = client.get(path, params=urlencode(query))
    assert reply.status_code in (200, 400, 404), (path, query, reply.text)


@settings(max_examples=effort(50, 3000), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.sampled_from(["name", "type", "threshold_rule", "combination_rule", "alarm_actions",
                         "enabled", "state", "severity", "counter_name", "resource_id",
                         "counter_volume", "recorded_at", "resource_metadata", "project_id",
                         "namespace", "counter_type", "counter_unit", "timestamp"]),
        values,
    ),
    st.sampled_from(["/v2/alarms", "/v2/meters/x"]),
)  # fmt: skip
def test_whatever_is_posted_is_answered(
    server: RunningServer, document: dict[str, Any], path: str
) -> None:
    if path == "/v2/meters/x":
        document = {"counter_name": "x", "resource_id": "r"} | document
    body = json.dumps([document] if path == "/v2/meters/x" else document)
    with server.client() as client:
        reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 201, 400, 401, 409), (path, body, reply.text)
