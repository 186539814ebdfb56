"""What people come to the console for, from the first click to the result."""

import csv
import json
import math
import re
import time
from pathlib import Path

import pytest

from browser.conftest import Desk
from eventually import eventually

pytestmark = pytest.mark.browser
NAB = Path(__file__).parents[3] / "shared" / "data" / "nab" / "ec2_cpu_utilization_5f5533.csv"
MINUTES = 14 * 24 * 12


def fortnight() -> list[float]:
    """Two weeks at five minutes: a real processor with its anomaly, or where that file is not, a
    made one."""
    if NAB.is_file():
        with NAB.open() as file:
            found = [float(row["value"]) for row in csv.DictReader(file)]
        return found[-MINUTES:]
    made = [45 + 5 * math.sin(n / 40) for n in range(MINUTES)]
    made[-1000:-980] = [68.0] * 20
    return made


@pytest.fixture(scope="module")
def history(console_server: object) -> str:
    """A namespace with a series of a fortnight."""
    from conftest import RunningServer

    assert isinstance(console_server, RunningServer)
    values = fortnight()
    end = int(time.time()) - 60
    pairs = [[end - 300 * (len(values) - n - 1), v] for n, v in enumerate(values)]
    pairs = [pair for pair in pairs if pair[0] > end - 13.9 * 86_400]
    with console_server.client() as client:
        body = [{"namespace": "nab", "dimensions": {"host": "web1", "metric_name": "cpu"},
                 "time_values": pairs}]  # fmt: skip
        assert client.post("/v1.1/metrics/aggregate", json=body).status_code == 204
    return "nab"


def test_finding_a_series_and_looking_at_it_closely(desk: Desk, history: str) -> None:
    page = desk.page("/console/metrics")
    page.get_by_label("Namespace", exact=True).press_sequentially("na")
    page.get_by_role("option", name=re.compile(history)).click()
    page.wait_for_url("**ns=nab**")
    dimension = page.get_by_label("Add a dimension")
    dimension.press_sequentially("metr")
    page.get_by_role("option", name=re.compile("metric_name")).wait_for()
    dimension.press("ArrowDown")
    dimension.press("Enter")
    page.get_by_role("option", name=re.compile("cpu")).wait_for()
    dimension.press("ArrowDown")
    dimension.press("Enter")
    page.wait_for_url("**metric_name%3Acpu**")
    with page.expect_response(lambda reply: "range=14d" in reply.url):
        page.get_by_label("Time", exact=True).select_option("14d")
    page.locator("#chart:not(.busy) .u-over").wait_for()
    assert page.get_by_role("table").get_by_text("metric_name=cpu").count() == 1

    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 80, steps=4)
    page.mouse.up()
    page.wait_for_url("**start=**")
    zoomed = page.url
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "timestamp,host,metric_name,avg"
    assert len(lines) > 10
    with page.expect_download() as picture:
        page.get_by_role("button", name="PNG").click()
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")
    # The address shows the same to somebody else.
    other = desk.page(zoomed.removeprefix(desk.url))
    other.locator("#chart canvas").wait_for()
    assert other.url == zoomed


def test_a_hundred_lines_of_a_thousand_points_are_drawn_at_once(desk: Desk, history: str) -> None:
    page = desk.page(f"/console/metrics?ns={history}")
    page.locator("#chart canvas").wait_for()
    took = page.evaluate("""() => {
      const times = Array.from({ length: 1000 }, (_, n) => 1.7e9 + n * 60);
      const lines = Array.from({ length: 100 }, (_, n) => ({ label: `line ${n}` }));
      const values = lines.map((_, n) => times.map((t) => Math.sin(t / 5000 + n) * 50 + n));
      const data = { start: times[0], end: times.at(-1), lines, times, values };
      const place = document.createElement("div");
      document.querySelector("main").append(place);
      const began = performance.now();
      heliometer.chart(place, data);
      return performance.now() - began;
    }""")
    assert took < 500, "many times what it takes, but no time for tea"


def test_an_alarm_is_tried_on_history_before_it_is_saved(desk: Desk, history: str) -> None:
    page = desk.page("/console/alarms/new")
    page.get_by_label("Name", exact=True).fill("Busy for once")
    expression = page.get_by_label("Expression", exact=True)
    expression.press_sequentially("max(nab{metric_name=")
    page.get_by_role("option", name=re.compile("cpu")).wait_for()
    expression.press("ArrowDown")
    expression.press("Enter")
    expression.press_sequentially("}, 300) > sixty")
    page.locator("#checked", has_text="a threshold is expected").wait_for()
    assert "^" in page.locator("#checked").inner_text()
    expression.fill("max(nab{metric_name=cpu}, 300) > 60")
    page.get_by_text("matches 1 series").wait_for()
    page.get_by_label("Look back").select_option("14d")
    page.locator("#verdict", has_text=re.compile(r"[1-9][0-9]* alarm")).wait_for()
    page.locator("#chart canvas").wait_for()
    page.get_by_role("button", name="Create the alarm").click()
    page.get_by_role("heading", name="Busy for once", level=1).wait_for()
    assert page.get_by_role("status").inner_text() == "Alarm created: Busy for once"
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Description").fill("Since Tuesday")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Since Tuesday").wait_for()
    page.get_by_role("button", name="Disable").click()
    page.get_by_text("nothing watches it").wait_for()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("Busy for once is deleted.").wait_for()


def test_a_wrong_alarm_keeps_what_was_typed(desk: Desk) -> None:
    desk.watch.allow("status of 4")
    page = desk.page("/console/alarms/new", scripts=False)
    page.get_by_label("Name", exact=True).fill("Wrong")
    page.get_by_label("Expression", exact=True).fill("avg(nab{metric_name=cpu}) >")
    page.get_by_role("button", name="Create the alarm").click()
    assert page.get_by_label("Name", exact=True).input_value() == "Wrong"
    assert "threshold" in page.locator("#checked").inner_text()
    assert page.get_by_label("Expression", exact=True).get_attribute("aria-invalid") == "true"


def test_an_address_is_verified_and_told(desk: Desk) -> None:
    page = desk.page("/console/notifications")
    form = page.locator("form[action='/console/notifications/methods']")
    form.get_by_label("Name", exact=True).fill("Joe")
    form.get_by_label("Address").fill("joe@mail.com")
    form.get_by_role("button", name="Create").click()
    page.get_by_label("Code", exact=True).wait_for()
    page.get_by_label("Code", exact=True).fill(newest_code(desk))
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("verified", exact=True).first.wait_for()
    page.get_by_role("button", name=re.compile("Send a test")).click()
    page.locator("#watched", has_text="delivered").wait_for()


def newest_code(desk: Desk) -> str:
    """The code in the mail that lies in the maildir."""
    folder = desk.server.data_dir / "outbox" / "email" / "new"

    def code() -> str | None:
        for mail in sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True):
            found = re.search(r"^ {4}([0-9]{10})", mail.read_text(), re.MULTILINE)
            if found:
                return found[1]
        return None

    return eventually(code, why=lambda: "no mail with a code came") or ""


def test_metrics_flow_to_an_endpoint(desk: Desk) -> None:
    page = desk.page("/console/feed")
    page.get_by_role("button", name="Create the endpoint").click()
    password = page.locator("#once-password").inner_text()
    assert len(password) >= 20
    form = page.locator("form[action$='/subscriptions']")
    form.get_by_label("Namespace", exact=True).fill("shop")
    form.get_by_label("Dimensions").fill("metric_name=orders")
    form.get_by_role("button").last.click()
    page.get_by_role("link", name="shop").wait_for()
    assert password not in page.content(), "shown once"
    with desk.server.client() as client:
        metric = {"namespace": "shop", "dimensions": {"metric_name": "orders"}, "value": 42}
        assert client.post("/v1.1/metrics", json=metric).status_code == 204
    page.locator("#usage dd", has_text=re.compile("^1$")).first.wait_for()
    page.get_by_text("42", exact=True).first.wait_for()
    page.get_by_role("button", name="Delete the endpoint").click()
    page.get_by_role("button", name="Create the endpoint").wait_for()


def test_a_custom_meter_and_the_level(desk: Desk) -> None:
    page = desk.page("/console/meters")
    page.get_by_text("New custom meter").click()
    form = page.locator("form[action='/console/meters'][method=post]")
    form.get_by_label("Name", exact=True).fill("vm1_load")
    form.get_by_label("Resource").fill("nova_1")
    form.get_by_role("button", name="Create").click()
    page.get_by_text("vm1_load").first.wait_for()
    page.get_by_label("premium").check()
    page.get_by_role("button", name="Set the level").click()
    page.get_by_role("heading", name="Monitoring level: premium").wait_for()
    with desk.server.client() as client:
        assert json.loads(client.get("/v1.1/metering").content)["value"] == "premium"
        assert client.post("/v1.1/metering?monitoring_level=basic").status_code == 200


def test_a_new_user_signs_in(desk: Desk) -> None:
    page = desk.page("/console/people")
    page.get_by_text("New user").click()
    form = page.locator("form[action='/console/people/users']")
    form.get_by_label("Name", exact=True).fill("carol")
    form.get_by_label("Password").fill("a long password")
    form.get_by_role("button", name="Create").click()
    page.get_by_text("carol").first.wait_for()
    theirs = desk.page(user="carol", password="a long password")
    assert theirs.get_by_role("heading", level=1).inner_text() == "demo"
