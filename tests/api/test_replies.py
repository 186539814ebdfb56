"""Every operation declares what it answers with, and answers with that."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest

from api.people import People
from heliometer.api.hp import replies as hp
from heliometer.api.keystone import replies as keystone
from heliometer.api.telemetry import replies as telemetry

SILENT = {"204", "304"}


@pytest.fixture(scope="module")
def openapi(people: People) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{people.server.url}/openapi.json").json()
    return document


@pytest.fixture(scope="module")
def client(people: People) -> Iterator[httpx.Client]:
    with people.client() as connected:
        yield connected


def check(reply: httpx.Response, types: Mapping[str, Any], operation: str) -> Any:
    """The document of a reply, which is of the declared type."""
    assert reply.status_code < 300, reply.text
    msgspec.json.decode(reply.content, type=types[operation])
    return reply.json()


def test_every_operation_declares_its_answers(openapi: dict[str, Any]) -> None:
    missing = [
        f"{method.upper()} {path} {status}"
        for path, item in openapi["paths"].items()
        for method, operation in item.items()
        for status, response in operation["responses"].items()
        if status not in SILENT and method != "head" and status[0] in "23"
        and not response.get("content")
    ]  # fmt: skip
    assert not missing


def test_every_operation_declares_the_statuses_of_what_it_takes(openapi: dict[str, Any]) -> None:
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            expected = {"400", "431", "500", "503"}
            if "requestBody" in operation:
                expected |= {"413", "415"}
            if operation["security"]:
                expected |= {"401", "429"}
            assert expected <= set(operation["responses"]), f"{method} {path}"


def test_streams_answer_as_declared(client: httpx.Client) -> None:
    for version, types in (("v1.1", hp.V1_1), ("v1.0", hp.V1_0)):
        made = check(client.post(f"/{version}/endpoints"), types, "POST /endpoints")["endpoint"]
        namespace = "n" if version == "v1.1" else "compute"
        wanted = {
            "endpoint_id": made["id"],
            "namespace": namespace,
            "dimensions": {"instance_id": "1"},
        }
        reply = client.post(f"/{version}/subscriptions", json={"subscription": wanted})
        subscription = check(reply, types, "POST /subscriptions")["subscription"]
        one, sub = "/endpoints/{endpoint_id}", "/subscriptions/{subscription_id}"
        endpoint = f"/{version}/endpoints/{made['id']}"
        check(client.get(f"/{version}"), types, "GET ")
        check(client.get(f"/{version}/endpoints"), types, "GET /endpoints")
        check(client.get(endpoint), types, f"GET {one}")
        check(client.post(f"{endpoint}/reset-password"), types, f"POST {one}/reset-password")
        check(client.get(f"/{version}/subscriptions"), types, "GET /subscriptions")
        check(client.get(f"/{version}/subscriptions/{subscription['id']}"), types, f"GET {sub}")
        client.delete(endpoint)


def test_alarms_answer_as_declared(client: httpx.Client) -> None:
    types, one = hp.V1_1, "/alarms/{alarm_id}"
    body = {"name": "declared", "expression": "max(declared{a=b}) > 1"}
    alarm = check(client.post("/v1.1/alarms", json={"alarm": body}), types, "POST /alarms")["alarm"]
    path = f"/v1.1/alarms/{alarm['id']}"
    check(client.get("/v1.1/alarms?limit=1"), types, "GET /alarms")
    check(client.get("/v1.1/alarms/history"), types, "GET /alarms/history")
    check(client.get(path), types, f"GET {one}")
    check(client.put(path, json={"alarm": body}), types, f"PUT {one}")
    check(client.patch(path, json={"alarm": {"enabled": True}}), types, f"PATCH {one}")
    check(client.get(f"{path}/history"), types, f"GET {one}/history")
    check(client.get(f"{path}/explanation"), types, f"GET {one}/explanation")
    start = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time.time() - 600))
    trial = {"expression": body["expression"], "start_time": start, "values": True}
    check(client.post("/v1.1/alarms/dry-run", json=trial), types, "POST /alarms/dry-run")
    ceilometer = f"/v2/alarms/{alarm['id']}"
    check(client.get("/v2/alarms"), telemetry.V2, "GET /alarms")
    check(client.get(ceilometer), telemetry.V2, f"GET {one}")
    check(client.get(f"{ceilometer}/state"), telemetry.V2, f"GET {one}/state")
    check(client.get(f"{ceilometer}/history"), telemetry.V2, f"GET {one}/history")
    client.delete(path)
    old = {
        "name": "declared", "namespace": "compute", "metric_type": "disk_read_ops",
        "metric_subject": "VDA", "dimensions": {"instance_id": "392633"}, "operator": "GTE",
        "threshold": 1000, "alarm_actions": [],
    }  # fmt: skip
    made = check(client.post("/v1.0/alarms", json={"alarm": old}), hp.V1_0, "POST /alarms")
    check(client.get("/v1.0/alarms"), hp.V1_0, "GET /alarms")
    check(client.get(f"/v1.0/alarms/{made['alarm']['id']}"), hp.V1_0, f"GET {one}")
    client.delete(f"/v1.0/alarms/{made['alarm']['id']}")


def test_notifications_answer_as_declared(client: httpx.Client) -> None:
    types = hp.V1_1
    wanted = {"name": "declared", "type": "EMAIL", "address": "declared@example.org"}
    reply = client.post("/v1.1/notification-methods", json={"notification_method": wanted})
    method = check(reply, types, "POST /notification-methods")["notification_method"]
    one = f"/v1.1/notification-methods/{method['id']}"
    check(client.get("/v1.1/notification-methods"), types, "GET /notification-methods")
    check(client.get(one), types, "GET /notification-methods/{method_id}")
    reply = client.post("/v1.1/notification-addresses", json={"notification_address": wanted})
    address = check(reply, types, "POST /notification-addresses")["notification_address"]
    check(client.get("/v1.1/notification-addresses"), types, "GET /notification-addresses")
    where = f"/v1.1/notification-addresses/{address['id']}"
    check(client.get(where), types, "GET /notification-addresses/{address_id}")
    check(client.get("/v1.1/notifications"), types, "GET /notifications")
    client.delete(one)
    client.delete(where)


def test_telemetry_answers_as_declared(client: httpx.Client) -> None:
    types = telemetry.V2
    dimensions = {"metric_name": "declared", "resource_id": "r1", "more": "x"}
    posted = client.post(
        "/v1.1/metrics", json={"namespace": "d", "dimensions": dimensions, "value": 1}
    )
    assert posted.status_code == 204
    check(client.get("/v2/health"), types, "GET /health")
    check(client.get("/v2/capabilities"), types, "GET /capabilities")
    check(client.get("/v2/meters"), types, "GET /meters")
    meter = "/meters/{meter_name}"
    assert check(client.get("/v2/meters/declared"), types, f"GET {meter}")
    query = "groupby=resource_id&aggregate.func=avg"
    reply = client.get(f"/v2/meters/declared/statistics?{query}")
    assert check(reply, types, f"GET {meter}/statistics")
    (sample, *_) = check(
        client.get("/v2/samples?q.field=meter&q.value=declared"), types, "GET /samples"
    )
    check(client.get(f"/v2/samples/{sample['id']}"), types, "GET /samples/{sample_id}")
    check(client.get("/v2/resources"), types, "GET /resources")
    check(client.get("/v2/resources/r1"), types, "GET /resources/{resource_id}")


def test_faults_are_as_declared(client: httpx.Client) -> None:
    for path, fault in (
        ("/v1.1/alarms/none", hp.FAULT), ("/v1.0/alarms/none", hp.FAULT),
        ("/v2/samples/none", telemetry.FAULT), ("/identity/v3/auth/tokens", keystone.FAULT),
    ):  # fmt: skip
        reply = client.get(path)
        assert reply.status_code >= 400
        msgspec.json.decode(reply.content, type=fault)


def test_identity_answers_as_declared(client: httpx.Client, people: People) -> None:
    token = people.token("member")
    subject = {"X-Subject-Token": token}
    check(client.get("/identity/v3/auth/tokens", headers=subject), keystone.V3, "GET /auth/tokens")
    for path in ("projects", "catalog", "domains"):
        check(client.get(f"/identity/v3/auth/{path}"), keystone.V3, f"GET /auth/{path}")
    check(client.get("/identity/v3"), keystone.V3, "GET ")
    check(client.get("/identity/v2.0"), keystone.V2_0, "GET ")
    check(client.get("/identity/v2.0/tenants"), keystone.V2_0, "GET /tenants")
    check(client.get(f"/identity/v2.0/tokens/{token}"), keystone.V2_0, "GET /tokens/{token_id}")
    versions = client.get("/identity")
    assert versions.status_code == 300
    msgspec.json.decode(versions.content, type=keystone.VERSIONS["GET "])


def test_people_answer_as_declared(people: People) -> None:
    project, v3, v1_1 = people.projects["shop"], keystone.V3, hp.V1_1
    with people.client("admin") as admin:
        users = check(admin.get("/identity/v3/users"), v3, "GET /users")["users"]
        user = f"/identity/v3/users/{users[0]['id']}"
        one = f"/identity/v3/projects/{project}"
        check(admin.get(user), v3, "GET /users/{user_id}")
        check(admin.get(f"{user}/projects"), v3, "GET /users/{user_id}/projects")
        check(admin.get("/identity/v3/projects"), v3, "GET /projects")
        check(admin.get(one), v3, "GET /projects/{project_id}")
        check(admin.get("/identity/v3/roles"), v3, "GET /roles")
        held = "/projects/{project_id}/users/{user_id}/roles"
        check(admin.get(f"{one}/users/{users[0]['id']}/roles"), v3, f"GET {held}")
        check(admin.get("/identity/v3/role_assignments"), v3, "GET /role_assignments")
        check(admin.get("/v1.1/audit"), v1_1, "GET /audit")
        reply = admin.post("/v1.1/invitations", json={"invitation": {}})
        made = check(reply, v1_1, "POST /invitations")["invitation"]
        check(admin.get("/v1.1/invitations"), v1_1, "GET /invitations")
        admin.delete(f"/v1.1/invitations/{made['id']}")
