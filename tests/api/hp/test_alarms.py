"""Alarms over v1.1 and v1.0 where a table or a loop says more than single requests: who may, what
is wrong, every field, pages, both versions' view of one alarm."""

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.hp.test_fuzz import FEW, check, texts, values
from api.people import USERS, People, populate
from conftest import RunningServer
from heliometer.alarms.model import (
    Finding,
    Outcome,
    SeriesValue,
    State,
    Transition,
    WindowValue,
)
from heliometer.config import Settings
from heliometer.storage.sql.alarms import SqlAlarmStore
from heliometer.storage.sql.database import Database

SPEC = Path(__file__).parents[4] / "shared" / "spec"
NOWHERE = "0" * 8 + "-0000-4000-8000-" + "0" * 12
EXPRESSION = "avg(ns, 300) > 1"
V1_0 = {
    "name": "n", "namespace": "compute", "metric_type": "disk_read_ops",
    "dimensions": {"instance_id": "1"}, "operator": "GT", "threshold": 1,
}  # fmt: skip
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def client(people: People) -> Iterator[httpx.Client]:
    with people.client() as connected:
        yield connected


@pytest.fixture
def name() -> str:
    """A name of the test's own."""
    return f"alarm test {next(numbers)}"


def made(client: httpx.Client, name: str, **fields: Any) -> dict[str, Any]:
    body = {"alarm": {"name": name, "expression": EXPRESSION, **fields}}
    reply = client.post("/v1.1/alarms", json=body)
    assert reply.status_code == 201, reply.text
    document: dict[str, Any] = reply.json()["alarm"]
    return document


def method(client: httpx.Client, name: str, address: str = "joe@mail.com") -> str:
    fields = {"name": name, "type": "EMAIL", "address": address}
    reply = client.post("/v1.1/notification-methods", json={"notification_method": fields})
    assert reply.status_code == 201, reply.text
    identifier: str = reply.json()["notification_method"]["id"]
    return identifier


def fault(reply: httpx.Response) -> dict[str, Any]:
    (found,) = reply.json().values()
    assert found["code"] == reply.status_code
    return dict(found)


# -- who may what ---------------------------------------------------------------------------------

READS = ["GET {a}", "GET {a}/history", "GET {a}/explanation"]
CHANGES = ["PUT {a}", "PATCH {a}", "DELETE {a}"]
OPEN_READS = ["GET /v1.1/alarms", "GET /v1.1/alarms/history", "GET /v1.0/alarms"]
BODY = {"alarm": {"name": "may", "expression": "may > 1"}}


def send(client: httpx.Client, request: str, alarm_id: str) -> httpx.Response:
    verb, _, path = request.format(a=f"/v1.1/alarms/{alarm_id}").partition(" ")
    return client.request(verb, path, json=BODY if verb in ("PUT", "PATCH", "POST") else None)


@pytest.mark.parametrize("role", ["reader", "agent", "member", "admin"])
def test_a_role_that_reads_sees_alarms_and_one_that_manages_changes_them(
    people: People, client: httpx.Client, name: str, role: str
) -> None:
    alarm_id = made(client, name)["id"]
    dry_run = {"expression": "ns > 1", "start_time": "2026-01-01", "end_time": "2026-01-01"}
    manages = role in ("member", "admin")
    with people.client(role) as asking:
        for request in [*READS, *OPEN_READS]:
            assert send(asking, request, alarm_id).status_code == 200, request
        assert asking.post("/v1.1/alarms/dry-run", json=dry_run).status_code == 400, "not 403"
        for request in ["POST /v1.1/alarms", *CHANGES]:
            reply = send(asking, request, alarm_id)
            assert (reply.status_code == 403) is not manages, f"{request} {reply.text}"
            if request.startswith("POST") and manages:
                send(client, "DELETE {a}", reply.json()["alarm"]["id"])
        v1_0 = asking.post("/v1.0/alarms", json={"alarm": {**V1_0, "name": name}})
        assert v1_0.status_code == (201 if manages else 403)


@pytest.mark.reliability(16)
def test_nobody_is_401_and_another_project_404(
    people: People, client: httpx.Client, name: str
) -> None:
    alarm_id = made(client, name, expression="hpcs.compute{metric_name=cpu_total_time} > 1")["id"]
    requests = [*READS, *CHANGES, f"GET /v1.0/alarms/{alarm_id}", f"DELETE /v1.0/alarms/{alarm_id}"]
    with people.client("stranger") as stranger, httpx.Client(base_url=people.server.url) as nobody:
        for request in requests:
            reply = send(stranger, request, alarm_id)
            assert reply.status_code == 404, request
            unknown = send(stranger, request.replace(alarm_id, NOWHERE), NOWHERE)
            same = fault(reply)["message"].replace(alarm_id, NOWHERE)
            assert fault(unknown)["message"] == same, "as if it did not exist"
            assert send(nobody, request, alarm_id).status_code == 401, request
        assert stranger.get("/v1.1/alarms/history").json() == {"history": [], "links": []}
        foreign = method(client, name)
        filtered = stranger.get("/v1.1/alarms", params={"notification_method_id": foreign})
        assert filtered.json() == {"alarms": []}
        beyond = stranger.get("/v1.1/alarms", params={"limit": 1, "marker": alarm_id})
        assert beyond.status_code == 400
    assert client.get(f"/v1.1/alarms/{alarm_id}").status_code == 200


# -- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "status", "message"), [
    ("", 400, "The body is empty"),
    ("{", 400, "The body is not JSON"),
    ("[]", 400, "body: expected object"),
    ("{}", 400, "body: object missing required field alarm"),
    ('{"alarm": null}', 400, "alarm: expected object"),
    ('{"alarm": {}}', 400, "alarm.name: is missing"),
    ('{"alarm": {"name": "a", "expression": "ns > 1"}, "more": 1}', 400, "body: .*more"),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "id": "1"}}', 400, "alarm: .*id"),
    ('{"alarm": {"name": "a", "name": "b", "expression": "ns > 1"}}', 400, "alarm: .*twice"),
    ('{"alarm": {"name": null, "expression": "ns > 1"}}', 400, "alarm.name: expected str"),
    ('{"alarm": {"name": "a", "expression": null}}', 400, "alarm.expression: expected str"),
    ('{"alarm": {"name": "a", "expression": ["ns > 1"]}}', 400, "alarm.expression: expected str"),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "enabled": "yes"}}', 400, "alarm.enabled: "),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "enabled": null}}', 400, "alarm.enabled: "),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "alarm_actions": null}}', 400,
     "alarm.alarm_actions: "),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "alarm_actions": [1]}}', 400,
     r"alarm.alarm_actions\[0\]: "),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "ok_actions": ["x"]}}', 400,
     r"ok_actions\[0\]: there is no notification method 'x'"),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "undetermined_actions": [""]}}', 400,
     r"undetermined_actions\[0\]: there is no notification method"),
    ('{"alarm": {"name": "\\ud800", "expression": "ns > 1"}}', 400, "alarm.name: .*surrogate"),
    ('{"alarm": {"name": "  ", "expression": "ns > 1"}}', 422, "alarm.name: must not be blank"),
    (json.dumps({"alarm": {"name": "x" * 251, "expression": "ns > 1"}}), 422, "alarm.name: .*251"),
    ('{"alarm": {"name": "a\\u202e", "expression": "ns > 1"}}', 422, "alarm.name: .*character 2"),
    (json.dumps({"alarm": {"name": "a", "expression": "ns > 1", "description": "x" * 1001}}), 422,
     "alarm.description: .*1001"),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "description": "\\t"}}', 422,
     "alarm.description: "),
    ('{"alarm": {"name": "a", "expression": "ns > 1", "severity": "High"}}', 422,
     "alarm.severity: 'High' is none; allowed are low, medium, high, critical"),
    (json.dumps({"alarm": {"name": "a", "expression": "ns > 1", "ok_actions": ["x"] * 101}}), 422,
     "alarm.ok_actions: may have 100 entries, not 101"),
    ('{"alarm": {"name": "a", "expression": ""}}', 422, "expression: it is empty"),
    ('{"alarm": {"name": "a", "expression": "a b > 1"}}', 422, r"expression: .*\n +\^"),
    ('{"alarm": {"name": "a", "expression": "ns{a=b, a=c} > 1"}}', 422, "expression: .*twice"),
    ('{"alarm": {"name": "a", "expression": "max(ns, 60) > 1 times 0"}}', 422, "expression: "),
    ('{"alarm": {"name": "a", "expression": "ns > 1e200"}}', 422, "expression: "),
    (json.dumps({"alarm": {"name": "a", "expression": " or ".join(["ns > 1"] * 101)}}), 422,
     "expression: .*100 subexpressions"),
    (json.dumps({"alarm": {"name": "a", "expression": "(" * 33 + "ns > 1" + ")" * 33}}), 422,
     "expression: .*32 parentheses"),
    (json.dumps({"alarm": {"name": "a", "expression": "ns > 1" + " " * 4096}}), 422,
     "expression: .*4096"),
])  # fmt: skip
def test_a_wrong_alarm_is_refused_and_the_place_is_named(
    client: httpx.Client, name: str, body: str, status: int, message: str
) -> None:
    alarm = made(client, name)
    path = f"/v1.1/alarms/{alarm['id']}"
    before = client.get("/v1.1/alarms").json()
    for verb, target in (("POST", "/v1.1/alarms"), ("PUT", path), ("PATCH", path)):
        reply = client.request(verb, target, content=body)
        if verb == "PATCH" and body == '{"alarm": {}}':
            continue
        assert reply.status_code == status, f"{verb} {reply.text}"
        assert re.match(message, fault(reply)["message"], re.S), f"{verb} {reply.text}"
    if body != '{"alarm": {}}':
        assert client.get("/v1.1/alarms").json() == before, "nothing changed"


@pytest.mark.parametrize(("field", "value", "message"), [
    ("namespace", "hpcs.compute", "alarm.namespace: .*allowed is compute"),
    ("metric_type", "disk_read_ops_count", "alarm.metric_type: "),
    ("dimensions", {}, "alarm.dimensions: instance_id is missing"),
    ("dimensions", {"instance_id": "1", "host": "a"}, "alarm.dimensions: 'host' is none"),
    ("dimensions", {"instance_id": ""}, "alarm.dimensions.instance_id: "),
    ("dimensions", {"instance_id": "a\nb"}, "alarm.dimensions.instance_id: "),
    ("dimensions", {"instance_id": 1}, "alarm.dimensions.*: expected str"),
    ("dimensions", [], "alarm.dimensions: expected object"),
    ("metric_subject", "", "alarm.metric_subject: "),
    ("metric_subject", "x" * 301, "alarm.metric_subject: "),
    ("operator", "gt", "alarm.operator: "),
    ("operator", ">", "alarm.operator: "),
    ("threshold", "1", "alarm.threshold: "),
    ("threshold", True, "alarm.threshold: "),
    ("threshold", 1e200, "expression: .*threshold"),
    ("threshold", None, "alarm.threshold: "),
    ("name", "x" * 251, "alarm.name: "),
    ("alarm_actions", ["x"], r"alarm_actions\[0\]: there is no notification method"),
    ("alarm_actions", "x", "alarm.alarm_actions: "),
    ("period", 60, "alarm: .*period"),
])  # fmt: skip
def test_v1_0_knows_no_422_what_is_wrong_is_400(
    client: httpx.Client, field: str, value: Any, message: str
) -> None:
    reply = client.post("/v1.0/alarms", json={"alarm": {**V1_0, field: value}})
    assert reply.status_code == 400, reply.text
    assert re.match(message, fault(reply)["message"], re.S), reply.text
    missing = {k: v for k, v in V1_0.items() if k != field}
    if field in V1_0:
        assert client.post("/v1.0/alarms", json={"alarm": missing}).status_code == 400


@pytest.mark.parametrize(("query", "message"), [
    ("state=FLAPPING", "state: 'FLAPPING' is not one of UNDETERMINED, OK, ALARM"),
    ("state=ok,dire", "state: 'dire'"),
    ("severity=dire", "severity: 'dire'"),
    ("enabled=1", "enabled: '1'"),
    ("limit=0", "limit: '0'"),
    ("limit=1001", "limit: '1001'"),
    ("limit=1&limit=2", "limit: may be given once"),
    (f"marker={NOWHERE}", "marker: "),
    ("limit=1&marker=%00", "marker: "),
])  # fmt: skip
def test_a_wrong_filter_is_400(client: httpx.Client, query: str, message: str) -> None:
    reply = client.get(f"/v1.1/alarms?{query}")
    assert reply.status_code == 400, reply.text
    assert fault(reply)["message"].startswith(message)


fields = st.sampled_from(["name", "expression", "alarm_actions", "severity", "enabled", "ok"])
alarm_bodies = st.one_of(
    values.map(lambda alarm: {"alarm": alarm}),
    st.dictionaries(fields, values, max_size=4).map(
        lambda some: {"alarm": {"name": "fuzz", "expression": "fuzz > 1", **some}}
    ),
    texts.map(lambda text: {"alarm": {"name": "fuzz", "expression": text}}),
    st.dictionaries(st.sampled_from([*V1_0, "metric_subject"]), values, max_size=4).map(
        lambda some: {"alarm": {**V1_0, "name": "fuzz", **some}}
    ),
    values.map(lambda text: {"expression": "fuzz > 1", "start_time": text}),
)


@FEW
@given(
    alarm_bodies,
    st.sampled_from(["/v1.1/alarms", "/v1.0/alarms", "/v1.1/alarms/dry-run"]),
)
def test_any_alarm_gets_an_answer(client: httpx.Client, body: Any, path: str) -> None:
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    reply = client.post(path, content=content)
    check(reply)
    if reply.status_code == 201:
        client.delete(reply.headers["Location"])


# -- changing -------------------------------------------------------------------------------------


def test_patch_changes_each_field_and_no_other(client: httpx.Client, name: str) -> None:
    joe, ann = method(client, name), method(client, f"{name} b")
    alarm = made(client, name, alarm_actions=[joe])
    path = f"/v1.1/alarms/{alarm['id']}"
    for field, value in {
        "name": f"{name} new", "expression": "count(ns, 600) < 3 times 2", "description": "å\nb",
        "severity": "critical", "enabled": False, "alarm_actions": [ann, joe],
        "ok_actions": [joe], "undetermined_actions": [ann],
    }.items():  # fmt: skip
        reply = client.patch(path, json={"alarm": {field: value}})
        assert reply.status_code == 200, reply.text
        changed = reply.json()["alarm"]
        assert changed["updated_at"] >= alarm["updated_at"]
        assert changed == {**alarm, field: value, "updated_at": changed["updated_at"]}
        assert client.get(path).json()["alarm"] == changed
        alarm = changed
        nothing = client.patch(path, json={"alarm": {field: None}})
        assert nothing.status_code == 400, "null is no value"
    whole = client.put(path, json={"alarm": {"name": name, "expression": EXPRESSION}})
    assert whole.status_code == 200
    rest = {"description": "", "severity": "medium", "enabled": True, "alarm_actions": [],
            "ok_actions": [], "undetermined_actions": []}  # fmt: skip
    found = whole.json()["alarm"]
    assert found == {**alarm, **rest, "name": name, "expression": EXPRESSION,
                     "updated_at": found["updated_at"]}  # fmt: skip


def test_an_alarm_may_be_put_as_it_is_but_not_as_another(client: httpx.Client, name: str) -> None:
    first, second = made(client, name), made(client, f"{name} b")
    body = {"alarm": {"name": name, "expression": f"({EXPRESSION})"}}
    assert client.put(f"/v1.1/alarms/{first['id']}", json=body).status_code == 200
    reply = client.put(f"/v1.1/alarms/{second['id']}", json=body)
    assert reply.status_code == 409
    assert fault(reply)["details"] == f"It is {first['id']}."


def test_of_twenty_that_create_the_same_alarm_at_once_one_succeeds(
    people: People, name: str
) -> None:
    body = {"alarm": {"name": name, "expression": EXPRESSION}}
    with people.client() as client, ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: client.post("/v1.1/alarms", json=body), range(20)))
        assert sorted(r.status_code for r in replies) == [201] + [409] * 19
        listed = client.get("/v1.1/alarms", params={"name": name}).json()["alarms"]
        assert len(listed) == 1


def test_a_repeated_action_counts_once(client: httpx.Client, name: str) -> None:
    joe = method(client, name)
    assert made(client, name, alarm_actions=[joe, joe])["alarm_actions"] == [joe]


# -- lists ----------------------------------------------------------------------------------------


def walk(client: httpx.Client, url: str, element: str) -> list[Any]:
    """Every item, page by page."""
    found: list[Any] = []
    while url:
        page = client.get(url).json()
        assert len(page[element]) <= 2
        found += page[element]
        assert all(link["rel"] == "next" for link in page["links"])
        url = page["links"][0]["href"] if page["links"] else ""
    return found


def test_pages_hold_every_alarm_once_in_order_of_creation(client: httpx.Client, name: str) -> None:
    wanted = [made(client, f"{name} {i} 100% å")["id"] for i in range(5)]
    made(client, f"{name} else", severity="low")
    url = f"/v1.1/alarms?limit=2&severity=medium&name={name} "
    assert [a["id"] for a in walk(client, url, "alarms")] == wanted
    whole = client.get("/v1.1/alarms", params={"name": "100% Å"}).json()["alarms"]
    assert {a["id"] for a in whole} == set(wanted), "wildcards mean themselves"


def test_filters_are_combined(client: httpx.Client, name: str) -> None:
    joe = method(client, name)
    made(client, f"{name} a", severity="high", ok_actions=[joe])
    made(client, f"{name} b", severity="high", enabled=False)
    made(client, f"{name} c", severity="low", undetermined_actions=[joe])

    def found(**query: str) -> str:
        listed = client.get("/v1.1/alarms", params={"name": name, **query}).json()["alarms"]
        return "".join(a["name"][-1] for a in listed)

    assert found() == "abc"
    assert found(severity="high") == "ab"
    assert found(severity="high,low", enabled="true") == "ac"
    assert found(enabled="False") == "b"
    assert found(notification_method_id=joe) == "ac"
    assert found(notification_method_id=joe, severity="low") == "c"
    assert found(state="ok,Alarm") == ""
    assert found(state="undetermined") == "abc"


# -- what happened --------------------------------------------------------------------------------


def finding(value: float | None) -> Finding:
    return Finding(
        "max(ns) > 1", None if value is None else value > 1, "max", ">", 1.0,
        (WindowValue(1_799_999_940_000, 1_800_000_000_000, value),), 3,
        () if value is None else (SeriesValue({"host": "a"}, value),),
    )  # fmt: skip


async def commit(settings: Settings, *transitions: Transition) -> None:
    """Write what an evaluator would."""
    database = await Database.open(settings)
    try:
        assert await SqlAlarmStore(database).commit(Outcome(transitions)) == []
    finally:
        await database.close()


def test_history_tells_each_change_why_and_who_was_told_newest_first(
    people: People, client: httpx.Client, name: str
) -> None:
    joe = method(client, name, "history@mail.com")
    alarm_id = made(client, name, expression="max(ns) > 1", alarm_actions=[joe])["id"]
    at = 1_800_000_003_000
    states = [State.UNDETERMINED, State.OK, State.ALARM, State.OK, State.ALARM, State.FLAPPING]
    asyncio.run(commit(people.server.settings, *(
        Transition(alarm_id, at + i * 60_000, 1_800_000_000_000, old, new, new is State.ALARM,
                   (finding(2.0 if new is not State.OK else 0.5),))
        for i, (old, new) in enumerate(itertools.pairwise(states))
    )))  # fmt: skip
    entries = walk(client, f"/v1.1/alarms/{alarm_id}/history?limit=2", "history")
    assert [(e["old_state"], e["new_state"], e["flapping"], e["at_once"]) for e in entries] == [
        ("ALARM", "ALARM", True, False),
        ("OK", "ALARM", False, True),
        ("ALARM", "OK", False, False),
        ("OK", "ALARM", False, True),
        ("UNDETERMINED", "OK", False, False),
    ]
    assert [len(e["notifications"]) for e in entries] == [0, 1, 0, 1, 0]
    last = entries[1]
    assert (last["at"], last["minute"]) == ("2027-01-15T08:03:03.000Z", "2027-01-15T08:00:00.000Z")
    assert last["alarm_id"] == alarm_id
    assert last["reason"] == [{
        "subexpression": "max(ns) > 1", "truth": True, "function": "max", "operator": ">",
        "threshold": 1.0, "matching_series": 3,
        "windows": [{"start": "2027-01-15T07:59:00.000Z", "end": "2027-01-15T08:00:00.000Z",
                     "value": 2.0}],
        "series": [{"dimensions": {"host": "a"}, "value": 2.0}],
    }]  # fmt: skip
    (told,) = last["notifications"]
    assert {k: told[k] for k in ("notification_method_id", "type", "address", "status",
                                 "reason", "attempts")} == {
        "notification_method_id": joe, "type": "EMAIL", "address": "history@mail.com",
        "status": "withheld", "reason": "the address is not verified", "attempts": 0,
    }  # fmt: skip
    everything = client.get("/v1.1/alarms/history", params={"limit": 5}).json()["history"]
    assert everything == entries
    flapping = client.get(f"/v1.1/alarms/{alarm_id}").json()["alarm"]
    assert (flapping["state"], flapping["flapping"]) == ("ALARM", True)
    assert flapping["state_since"] == "2027-01-15T08:04:03.000Z"
    in_alarm = client.get("/v1.1/alarms", params={"state": "alarm", "name": name}).json()
    assert [a["id"] for a in in_alarm["alarms"]] == [alarm_id]
    assert client.get("/v1.1/alarms", params={"state": "OK", "name": name}).json()["alarms"] == []
    for marker in ("0", "-1", "x", "9" * 13):
        reply = client.get(f"/v1.1/alarms/{alarm_id}/history", params={"marker": marker})
        assert reply.status_code == 400, marker
    assert client.delete(f"/v1.1/alarms/{alarm_id}").status_code == 204
    listed = client.get("/v1.1/alarms/history").json()["history"]
    assert alarm_id not in {e["alarm_id"] for e in listed}


# -- v1.0 -----------------------------------------------------------------------------------------


def table_of(document: str, section: str) -> set[str]:
    """The first column of the table of compute metrics below a heading."""
    lines = (SPEC / document).read_text(encoding="utf-8").partition(section)[2].splitlines()
    return {m[1] for m in (re.match(r"\|(\w+)\|Counter\|", line) for line in lines) if m}


@pytest.mark.skipif(not SPEC.is_dir(), reason="the documents are not here")
def test_each_counter_of_v1_0_is_the_documented_one_of_v1_1(client: httpx.Client) -> None:
    old = table_of("001_624313e928e03a97.txt", "##### 2.1.2.3 Metrics")
    new = table_of("003_515446dea964edf1.txt", "#### 2.3.2")
    assert len(old) == 13
    for metric_type in old:
        wanted = {**V1_0, "name": f"counter {metric_type}", "metric_type": metric_type}
        reply = client.post("/v1.0/alarms", json={"alarm": wanted})
        assert reply.status_code == 201, reply.text
        alarm_id = reply.json()["alarm"]["id"]
        text = client.get(f"/v1.1/alarms/{alarm_id}").json()["alarm"]["expression"]
        found = re.search(r"metric_name=(\w+)", text)
        assert found
        assert found[1] in new
        shown = client.get(f"/v1.0/alarms/{alarm_id}").json()["alarm"]
        assert {k: shown[k] for k in wanted} == wanted


@pytest.mark.parametrize("operator", ["LT", "LTE", "GT", "GTE"])
@pytest.mark.parametrize("threshold", [0, -5, 1000, 0.25, 2**53, 1e100])
@pytest.mark.parametrize("instance", ["392633", 'a, "b"\\{c}=d é'])
def test_what_v1_0_defines_it_shows_again(
    client: httpx.Client, name: str, operator: str, threshold: float, instance: str
) -> None:
    wanted = {**V1_0, "name": name, "operator": operator, "threshold": threshold,
              "dimensions": {"instance_id": instance}, "metric_subject": "Eth0"}  # fmt: skip
    reply = client.post("/v1.0/alarms", json={"alarm": wanted})
    assert reply.status_code == 201, reply.text
    shown = client.get(reply.headers["Location"]).json()["alarm"]
    assert shown == reply.json()["alarm"]
    assert {k: shown[k] for k in wanted} == {**wanted, "metric_subject": "ETH0"}
    again = client.post("/v1.0/alarms", json={"alarm": {**wanted, "metric_subject": "eth0"}})
    assert again.status_code == 409, "the subject is the same in any case"


@pytest.mark.parametrize(("expression", "metric_type"), [
    ("hpcs.compute{metric_name=net_in_bytes_count, instance_id=1} < 5", "net_in_bytes"),
    ("hpcs.compute{metric_name=cpu_total_time} gte 5", "cpu_total_time"),
    ("(hpcs.compute{METRIC} > 5)".replace("METRIC", "metric_name=disk_read_ops_count"),
     "disk_read_ops"),
    ("hpcs.compute{metric_name=net_in_bytes_count, instance_id=1, zone=a} < 5", None),
    ("hpcs.compute{metric_name=net_in_bytes} < 5", None),
    ("hpcs.compute{instance_id=1} < 5", None),
    ("hpcs.volume{metric_name=cpu_total_time} < 5", None),
    ("max(hpcs.compute{metric_name=cpu_total_time}) > 5", None),
    ("max(hpcs.compute{metric_name=cpu_total_time}) > 5 times 2", None),
    ("hpcs.compute{metric_name=cpu_total_time} > 5 and ns > 1", None),
])  # fmt: skip
def test_v1_0_shows_the_alarms_of_v1_1_that_it_can_say(
    client: httpx.Client, name: str, expression: str, metric_type: str | None
) -> None:
    alarm_id = made(client, name, expression=expression)["id"]
    listed = {a["id"]: a for a in client.get("/v1.0/alarms").json()["alarms"]}
    reply = client.get(f"/v1.0/alarms/{alarm_id}")
    if metric_type is None:
        assert alarm_id not in listed
        assert reply.status_code == 404
        assert client.delete(f"/v1.0/alarms/{alarm_id}").status_code == 404
        assert client.get(f"/v1.1/alarms/{alarm_id}").status_code == 200
    else:
        assert reply.json()["alarm"]["metric_type"] == metric_type
        assert listed[alarm_id] == reply.json()["alarm"]
        assert client.delete(f"/v1.0/alarms/{alarm_id}").status_code == 204
        assert client.get(f"/v1.1/alarms/{alarm_id}").status_code == 404


def test_flapping_is_a_state_of_v1_0(people: People, client: httpx.Client, name: str) -> None:
    reply = client.post("/v1.0/alarms", json={"alarm": {**V1_0, "name": name}})
    alarm_id = reply.json()["alarm"]["id"]
    asyncio.run(commit(people.server.settings, *(
        Transition(alarm_id, 1_800_000_000_000, 1_800_000_000_000, old, new, False, ())
        for old, new in ((State.UNDETERMINED, State.ALARM), (State.ALARM, State.FLAPPING))
    )))  # fmt: skip
    assert client.get(f"/v1.0/alarms/{alarm_id}").json()["alarm"]["state"] == "FLAPPING"
    assert client.get(f"/v1.1/alarms/{alarm_id}").json()["alarm"]["state"] == "ALARM"


# -- limits ---------------------------------------------------------------------------------------


def test_a_project_has_only_so_many_alarms(tmp_path: Path) -> None:
    environment = {
        "HELIOMETER_COLLECTOR_ENABLED": "false",
        "HELIOMETER_LIMITS_ALARMS_PER_PROJECT": "2",
    }
    running = RunningServer(tmp_path / "var", environment).start()
    try:
        asyncio.run(populate(running.settings))
        with running.client(running.token("member", USERS["member"], "secret")) as client:
            first, _ = made(client, "a"), made(client, "b")
            for path, body in (
                ("/v1.1/alarms", {"name": "c", "expression": EXPRESSION}),
                ("/v1.0/alarms", V1_0),
            ):
                reply = client.post(path, json={"alarm": body})
                assert reply.status_code == 429
                assert "may have 2" in reply.json()["rate_limited"]["message"]
                assert int(reply.headers["Retry-After"]) > 0
            assert client.delete(f"/v1.1/alarms/{first['id']}").status_code == 204
            made(client, "c")
        with running.client(running.token("stranger", USERS["stranger"], "secret")) as neighbour:
            made(neighbour, "a")
    finally:
        assert running.stop() == 0
