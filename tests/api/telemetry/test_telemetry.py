"""Telemetry v2 where a table or a clock says more than single requests."""

import asyncio
import math
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from conftest import RunningServer
from heliometer.storage.sql.database import Database

NOW = int(time.time()) // 60 * 60 - 3600
"""The beginning of a minute an hour ago."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(
        tmp_path_factory.mktemp("v2") / "var", {"HELIOMETER_COLLECTOR_ENABLED": "false"}
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as connected:
        yield connected


@pytest.fixture(scope="module")
def shop(client: httpx.Client) -> dict[str, list[tuple[int, float]]]:
    """Two tills, one sample every 20 seconds for ten minutes; by till, time and value."""
    values = {
        till: [(NOW + 20 * k, float((7 * k + 3 * n) % 11)) for k in range(30)]
        for n, till in enumerate(("till-1", "till-2"))
    }
    metrics = [
        {
            "namespace": "shop",
            "dimensions": {"metric_name": "sales", "resource_id": till, "floor": str(n)},
            "time_values": pairs,
        }
        for n, (till, pairs) in enumerate(values.items())
    ]
    assert client.post("/v1.1/metrics/aggregate", json=metrics).status_code == 204
    return values


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def get(client: httpx.Client, path: str, *query: tuple[str, str]) -> Any:
    reply = client.get(path, params=list(query))
    assert reply.status_code == 200, reply.text
    return reply.json()


def q(field: str, value: str, op: str = "", type_: str = "") -> list[tuple[str, str]]:
    """As Ceilometer's client sends it: all four, some empty."""
    return [("q.field", field), ("q.op", op), ("q.type", type_), ("q.value", value)]


# -- queries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        [("q.field", "resource_id"), ("q.value", "till-1")],
        [("q.value", "till-1"), ("q.field", "resource_id"), ("q.op", "eq")],
        [("q.field", "resource_id"), ("q.field", "meter"), ("q.value", "till-1"),
         ("q.value", "sales")],
        [("q.field", "resource_id"), ("q.op", "eq"), ("q.value", "till-1"),
         ("q.field", "meter"), ("q.value", "sales")],
        [("q.field", "resource_id"), ("q.field", "name"), ("q.op", ""), ("q.op", ""),
         ("q.type", ""), ("q.type", "string"), ("q.value", "till-1"), ("q.value", "sales")],
        [("q", '[{"field": "resource_id", "op": "eq", "value": "till-1"}]')],
        [("q", '{"field": "resource_id", "value": "till-1"}'), ("unknown", "ignored")],
    ],
)  # fmt: skip
def test_conditions_come_in_many_forms(
    client: httpx.Client, shop: object, query: list[tuple[str, str]]
) -> None:
    (meter,) = get(client, "/v2/meters", *query)
    assert (meter["name"], meter["resource_id"]) == ("sales", "till-1")


def test_a_meter_is_found_by_its_id_with_or_without_the_line_end(
    client: httpx.Client, shop: object
) -> None:
    (meter,) = get(client, "/v2/meters", *q("resource_id", "till-2"))
    assert meter["meter_id"].endswith("\n")
    for form in (meter["meter_id"], meter["meter_id"].strip()):
        assert get(client, "/v2/meters", *q("meter_id", form)) == [meter]
    assert get(client, "/v2/meters", *q("meter_id", "nonsense")) == []


def test_every_page_together_is_every_meter_once(client: httpx.Client, shop: object) -> None:
    metrics = [
        {"namespace": "many", "dimensions": {"metric_name": f"m{n}"}, "value": 1} for n in range(25)
    ]
    assert client.post("/v1.1/metrics/aggregate", json=metrics).status_code == 204
    url: str | None = "/v2/meters?q.field=namespace&q.value=many&per_page=10"
    names = []
    while url:
        reply = client.get(url)
        assert reply.headers["Total"] == "25"
        names += [m["name"] for m in reply.json()]
        url = reply.links.get("next", {}).get("url")
    assert names == [f"m{n}" for n in range(25)]
    assert len(get(client, "/v2/meters", *q("namespace", "many"), ("limit", "7"))) == 7
    for n in range(2):
        body = {"namespace": "twice", "dimensions": {"metric_name": "m", "x": str(n)}, "value": 1}
        client.post("/v1.1/metrics", json=body)
    assert len(get(client, "/v2/meters", *q("namespace", "twice"))) == 2
    assert len(get(client, "/v2/meters", *q("namespace", "twice"), ("unique", "True"))) == 1


# -- samples ----------------------------------------------------------------------------------


def test_samples_are_the_newest_first_in_both_forms(
    client: httpx.Client, shop: dict[str, list[tuple[int, float]]]
) -> None:
    found = get(client, "/v2/meters/sales", *q("resource_id", "till-1"), ("limit", "5"))
    expected = shop["till-1"][:-6:-1]
    assert [(s["timestamp"], s["counter_volume"]) for s in found] == [
        (iso(at), value) for at, value in expected
    ]
    sample = found[0]
    assert sample["counter_name"] == "sales"
    assert sample["resource_metadata"] == {"floor": "0", "display_name": "sales"}
    new = get(client, f"/v2/samples/{sample['message_id']}")
    assert (new["meter"], new["volume"], new["timestamp"]) == (
        "sales",
        sample["counter_volume"],
        sample["timestamp"],
    )
    conditions = [*q("meter", "sales"), *q("resource_id", "till-1")]
    assert get(client, "/v2/samples", *conditions, ("limit", "1")) == [new]
    assert client.get("/v2/samples/1-2-3").status_code == 404
    assert client.get("/v2/samples/garbage").status_code == 404


@pytest.mark.parametrize(
    ("op", "count"), [("lt", 10), ("le", 11), ("eq", 1), ("ge", 20), ("gt", 19)]
)
def test_timestamps_are_compared(client: httpx.Client, shop: object, op: str, count: int) -> None:
    moment = iso(NOW + 200)
    for form in (moment, f"{moment}Z", f"{moment}+00:00", f"{moment}.000"):
        conditions = [*q("timestamp", form, op, "datetime"), *q("resource_id", "till-1")]
        assert len(get(client, "/v2/meters/sales", *conditions)) == count
    # A raw + arrives as a space.
    east = (datetime.fromtimestamp(NOW + 200, UTC) + timedelta(hours=9)).strftime("%FT%T")
    url = f"/v2/meters/sales?q.field=timestamp&q.op={op}&q.value={east}+09:00"
    reply = client.get(f"{url}&q.field=resource_id&q.op=eq&q.value=till-1")
    assert len(reply.json()) == count


def test_metadata_is_compared(client: httpx.Client, shop: object) -> None:
    for op, type_, value, floors in (
        ("eq", "", "0", {"0"}),
        ("ne", "string", "0", {"1"}),
        ("ge", "integer", "0", {"0", "1"}),
        ("lt", "float", "0.5", {"0"}),
    ):
        found = get(
            client, "/v2/meters/sales", *q("metadata.floor", value, op, type_), ("limit", "100")
        )
        assert {s["resource_metadata"]["floor"] for s in found} == floors
    assert get(client, "/v2/meters/sales", *q("metadata.nothing", "1")) == []


# -- statistics -------------------------------------------------------------------------------


def expected_of(values: list[tuple[int, float]]) -> dict[str, float]:
    numbers = [value for _, value in values]
    return {
        "count": len(numbers),
        "sum": sum(numbers),
        "avg": sum(numbers) / len(numbers),
        "min": min(numbers),
        "max": max(numbers),
    }


def close(found: dict[str, Any], expected: dict[str, float]) -> bool:
    return all(math.isclose(found[key], value) for key, value in expected.items())


def test_statistics_are_over_all_resources_unless_grouped(
    client: httpx.Client, shop: dict[str, list[tuple[int, float]]]
) -> None:
    path = "/v2/meters/sales/statistics"
    (whole,) = get(client, path)
    everything = [*shop["till-1"], *shop["till-2"]]
    assert close(whole, expected_of(everything))
    assert whole["duration"] == 580
    assert (whole["duration_start"], whole["duration_end"]) == (iso(NOW), iso(NOW + 580))
    assert whole["period"] == 0
    assert whole["groupby"] is None
    grouped = get(client, path, ("groupby", "resource_id"), ("groupby", "resource_metadata.floor"))
    assert [g["groupby"] for g in grouped] == [
        {"resource_id": "till-1", "resource_metadata.floor": "0"},
        {"resource_id": "till-2", "resource_metadata.floor": "1"},
    ]
    assert close(grouped[1], expected_of(shop["till-2"]))


def test_periods_begin_where_the_time_begins(
    client: httpx.Client, shop: dict[str, list[tuple[int, float]]]
) -> None:
    start = NOW + 50
    found = get(
        client,
        "/v2/meters/sales/statistics",
        ("period", "100"),
        *q("timestamp", iso(start), "ge"),
        *q("timestamp", iso(start + 300), "lt"),
        *q("resource_id", "till-1", "eq"),
    )
    for k, statistic in enumerate(found):
        low = start + 100 * k
        inside = [(at, value) for at, value in shop["till-1"] if low <= at < low + 100]
        assert (statistic["period_start"], statistic["period_end"]) == (iso(low), iso(low + 100))
        assert close(statistic, expected_of(inside))
    assert len(found) == 3
    first = get(client, "/v2/meters/sales/statistics", ("period", "70"))[0]
    assert first["period_start"] == iso(NOW), "with the first sample, unless a time is asked for"


def test_selectable_aggregates(
    client: httpx.Client, shop: dict[str, list[tuple[int, float]]]
) -> None:
    (found,) = get(
        client,
        "/v2/meters/sales/statistics",
        ("aggregate.func", "stddev"),
        ("aggregate.func", "cardinality"),
        ("aggregate.param", "resource_id"),
        ("aggregate.func", "max"),
    )
    numbers = [value for values in shop.values() for _, value in values]
    assert found["aggregate"].keys() == {"stddev", "cardinality/resource_id", "max"}
    assert math.isclose(found["aggregate"]["stddev"], statistics.pstdev(numbers))
    assert found["aggregate"]["cardinality/resource_id"] == 2
    for wrong in ("median", "cardinality"):
        reply = client.get(f"/v2/meters/sales/statistics?aggregate.func={wrong}")
        assert reply.status_code == 400
    assert client.get("/v2/meters/sales/statistics?groupby=colour").status_code == 400
    assert client.get("/v2/meters/sales/statistics?period=-1").status_code == 400
    assert get(client, "/v2/meters/nothing/statistics") == []


# -- resources --------------------------------------------------------------------------------


def test_resources(client: httpx.Client, shop: object) -> None:
    found = get(client, "/v2/resources", *q("resource_id", "till-2"))
    assert len(found) == 1
    resource = found[0]
    assert (resource["first_sample_timestamp"], resource["last_sample_timestamp"]) == (
        iso(NOW),
        iso(NOW + 580),
    )
    assert resource["metadata"] == {"floor": "1"}
    links = {link["rel"]: link["href"] for link in resource["links"]}
    assert client.get(links["self"]).json() == resource
    assert len(client.get(links["sales"]).json()) == 30
    assert client.get("/v2/resources/nowhere").status_code == 404
    after = get(client, "/v2/resources", *q("timestamp", iso(NOW + 600), "ge"))
    assert "till-2" not in [r["resource_id"] for r in after]
    bare = get(client, "/v2/resources", *q("resource_id", "till-2"), ("meter_links", "0"))
    assert [link["rel"] for link in bare[0]["links"]] == ["self"]


# -- custom meters ----------------------------------------------------------------------------


def item(name: str, volume: Any = None, resource: str = "nova_1", **more: Any) -> dict[str, Any]:
    given = {"counter_name": name, "resource_id": resource, **more}
    return given | ({"counter_volume": volume} if volume is not None else {})


@pytest.fixture(scope="module")
def aged_clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx.Client]]:
    """Of tenants whose custom meters a, b and c are older than a minute."""
    running = RunningServer(
        tmp_path_factory.mktemp("aged") / "var",
        {
            "HELIOMETER_COLLECTOR_ENABLED": "false",
            "HELIOMETER_LIMITS_SAMPLES_PER_METER_AND_DAY": "5",
            "HELIOMETER_LIMITS_CUSTOM_METERS_PER_PROJECT": "4",
        },
    ).start()
    tokens = [running.tenant().token() for _ in range(8)]
    for token in tokens:
        with running.client(token) as client:
            for name in "abc":
                reply = client.post(f"/v2/meters/{name}", json=[item(name)])
                assert reply.status_code == 200, reply.text
    running.stop()
    age(running)
    running.start()
    clients = [running.client(token) for token in tokens]
    yield clients.copy()
    for client in clients:
        client.close()
    assert running.stop() == 0


@pytest.fixture
def aged(aged_clients: list[httpx.Client]) -> httpx.Client:
    """One that no other test has."""
    return aged_clients.pop()


def age(server: RunningServer) -> None:
    async def set_back() -> None:
        database = await Database.open(server.settings)
        async with database.write() as connection:
            await connection.execute(
                text("UPDATE custom_meters SET created_at = created_at - 61000")
            )
        await database.close()

    asyncio.run(set_back())


def message(reply: httpx.Response) -> str:
    assert reply.status_code == 400, reply.text
    text: str = reply.json()["error"]["message"]
    return text


def test_samples_are_kept_as_given_and_seen_by_v1_1(aged: httpx.Client) -> None:
    volumes = ["1.01", "-999999999999.9999", 2, 3.5]
    recorded = datetime.fromtimestamp(NOW, UTC).isoformat()
    items = [item("a", v, recorded_at=recorded) for v in volumes]
    reply = aged.post("/v2/meters/a", json=items)
    assert reply.status_code == 200, reply.text
    assert [i["counter_volume"] for i in reply.json()] == ["1.01", "-999999999999.9999", "2", "3.5"]
    assert {i["recorded_at"] for i in reply.json()} == {recorded}
    found = aged.get(
        "/v1.1/metrics",
        params={
            "namespace": "nova",
            "dimensions": "metric_name:a,resource_id:nova_1",
            "statistics": "count,min,max",
            "start_time": iso(NOW - 60) + "Z",
        },
    ).json()
    (series,) = found
    assert series["datapoints"]["count"] == [4]
    assert series["datapoints"]["min"] == [-999999999999.9999]
    alarm = {"name": "a", "expression": "max(nova{metric_name=a}) > 3"}
    assert aged.post("/v1.1/alarms", json={"alarm": alarm}).status_code == 201


def test_the_day_has_so_many_samples_and_all_or_nothing(aged: httpx.Client) -> None:
    assert aged.post("/v2/meters/a", json=[item("a", 1)] * 4).status_code == 200
    over = aged.post("/v2/meters/a", json=[item("a", 1)] * 2)
    assert message(over) == "Custom meter is over than the update limit."
    assert len(aged.get("/v2/meters/a").json()) == 4
    assert aged.post("/v2/meters/a", json=[item("a", 1)]).status_code == 200


def test_the_plan_says_how_many_meters_are_active(aged: httpx.Client) -> None:
    assert aged.post("/v2/meters/a", json=[item("a", 1)]).status_code == 200
    other = aged.post("/v2/meters/b", json=[item("b", 1)])
    assert message(other) == (
        "Only 1 custom meters is cannot update in 24 hours in the current plan."
    )
    assert aged.get("/v2/meters/b").json() == []
    assert aged.post("/v1.1/metering?monitoring_level=premium").status_code == 200
    assert aged.post("/v2/meters/b", json=[item("b", 1)]).status_code == 200


def test_a_project_has_so_many_custom_meters(aged: httpx.Client) -> None:
    both = [item("d"), item("d", resource="nova_2")]
    assert message(aged.post("/v2/meters/d", json=both)) == (
        "Custom meter is over than the creation limit."
    )
    assert aged.get("/v2/meters", params=dict(q("name", "d"))).json() == []
    assert aged.post("/v2/meters/d", json=[item("d"), item("d")]).status_code == 200


def test_a_request_has_up_to_100_items_all_or_nothing(aged: httpx.Client) -> None:
    over = aged.post("/v2/meters/d", json=[item("d")] * 101)
    assert message(over) == "Request size is over than 100."
    assert aged.post("/v2/meters/d", json=[item("d")] * 100).status_code == 200
    half = [item("a", 1), item("a", "x")]
    assert message(aged.post("/v2/meters/a", json=half)) == "Invalid counter_volume."
    assert aged.get("/v2/meters/a").json() == []
    assert aged.post("/v2/meters/a", json=item("a", 1)).status_code == 200, "one, not in a list"


def test_what_is_no_volume(aged: httpx.Client) -> None:
    wrong: list[Any] = ["1e3", "0x1", "1,5", " 1", "nan", True, [], {}, "1."]
    for volume in wrong:
        reply = aged.post("/v2/meters/a", json=[item("a", volume)])
        assert message(reply) == "Invalid counter_volume.", volume
    assert aged.post("/v2/meters/a", json=[item("a", "")]).status_code == 200
    assert aged.get("/v2/meters/a").json() == []
