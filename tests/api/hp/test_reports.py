"""What agents report, for several projects in one request (beyond the documents)."""

import time
from typing import Any

import httpx
import pytest

from api.people import People


def metric(name: str, value: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "namespace": "hpcs.compute",
        "dimensions": {"instance_id": "i", "metric_name": name},
        "timestamp": int(time.time()) - 60,
        "value": value,
        **more,
    }


def stored(people: People, user: str, name: str) -> float:
    """The sum of a metric in the user's project."""
    with people.client(user) as client:
        reply = client.get(
            "/v1.1/metrics",
            params={"namespace": "hpcs.compute", "dimensions": f"metric_name:{name}",
                    "statistics": "sum", "period": 86_400, "start_time": "2020-01-01T00:00Z"},
        )  # fmt: skip
        assert reply.status_code == 200, reply.text
        return float(sum(value for each in reply.json() for value in each["datapoints"]["sum"]))


def post(people: People, *reports: Any, user: str = "agent", **headers: str) -> httpx.Response:
    with people.client(user) as client:
        return client.post(
            "/v1.1/metrics/reports",
            json={"reports": reports},
            headers={k.replace("_", "-"): v for k, v in headers.items()},
        )


def test_one_request_for_several_projects(people: People) -> None:
    reply = post(
        people,
        {"metrics": [metric("several", 1)]},
        {"project": "stock", "metrics": [metric("several", 2), metric("several", 3)]},
    )
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"intervals": {"": 300, "stock": 300}, "refused": []}
    assert stored(people, "member", "several") == 1
    assert stored(people, "stranger", "several") == 5


def test_projects_are_named_by_id_too(people: People) -> None:
    id_ = people.projects["stock"]
    reply = post(people, {"project": id_, "metrics": [metric("by_id")]})
    assert reply.json()["intervals"] == {id_: 300}
    assert stored(people, "stranger", "by_id") == 1


def test_a_new_level_is_told_with_the_next_report(people: People) -> None:
    with people.client("stranger") as client:
        for level, seconds in (("premium", 60), ("basic", 300)):
            assert client.post(f"/v1.1/metering?monitoring_level={level}").status_code == 200
            reply = post(people, {"project": "stock", "metrics": []})
            assert reply.json()["intervals"] == {"stock": seconds}


def test_a_project_that_is_gone_does_not_stop_the_others(people: People) -> None:
    reply = post(
        people,
        {"project": "gone", "metrics": [metric("others")]},
        {"project": "stock", "metrics": [metric("others", timestamp=1)]},
        {"metrics": [metric("others")]},
    )
    assert reply.status_code == 200
    [gone, wrong] = reply.json()["refused"]
    assert gone == {"project": "gone", "message": "There is no such project."}
    assert wrong["project"] == "stock"
    assert wrong["message"].startswith("[0].timestamp: 1 is not within two weeks past")
    assert stored(people, "member", "others") == 1


def test_a_report_that_comes_again_is_stored_once(people: People) -> None:
    parts = [{"metrics": [metric("once")]}, {"project": "stock", "metrics": [metric("once")]}]
    for _ in range(2):
        reply = post(people, *parts, Idempotency_Key="report-1")
        assert reply.json()["intervals"] == {"": 300, "stock": 300}
    assert stored(people, "member", "once") == stored(people, "stranger", "once") == 1
    other = post(people, {"metrics": [metric("once")]}, Idempotency_Key="report-1")
    assert other.status_code == 422


def test_only_agents_report_for_others_and_in_reserved_namespaces(people: People) -> None:
    free = metric("free", namespace="mine")
    assert post(people, {"metrics": [free]}, user="member").status_code == 200
    assert post(people, {"metrics": [metric("m")]}, user="member").status_code == 409
    assert post(people, {"project": "stock", "metrics": [free]}, user="member").status_code == 403
    # Nor do others learn which projects there are.
    assert post(people, {"project": "gone", "metrics": [free]}, user="member").status_code == 403
    assert post(people, {"metrics": [free]}, user="reader").status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("{", 400, "JSON"),
        ("[]", 422, "reports: "),
        ('{"reports": {}}', 422, "reports: "),
        ('{"reports": [{"project": 1, "metrics": []}]}', 422, "project"),
        ('{"reports": [{"project": "stock"}]}', 422, "metrics"),
        ('{"reports": [{"metrics": []}, {"metrics": []}]}', 422, "twice"),
    ],
)
def test_what_is_no_report(people: People, body: str, status: int, text: str) -> None:
    with people.client("agent") as client:
        reply = client.post(
            "/v1.1/metrics/reports", content=body, headers={"Content-Type": "application/json"}
        )
    assert reply.status_code == status, reply.text
    assert text in reply.text
