"""The console as somebody with a browser uses it."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser.accessibility import findings, wider_than_the_screen
from browser.conftest import Desk, put_session, session_of
from conftest import PASSWORD, RunningServer
from console.pages import PAGES, skip_if_not_yet
from console.visitor import COOKIE
from eventually import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)>"
USER = f"{EVIL}\"'&amp;"
PROJECT = f"{EVIL}</option></select>"
HEBREW = "מדד \"חם\" 'קר'"
VALUES = {
    "metric_name": EVIL,
    "quoted": "\"'`</script><script>alert(2)</script>{{7*7}}${7*7}",
    "hebrew": HEBREW,
    "long": "W" * 300,
    "wordy": ("a b, " * 60)[:299] + "z",
    "K" * 50: "javascript:alert(3)",
}
NAMESPACE = "N" * 64


def sign_in(page: "Page", user: str = "demo", password: str = PASSWORD) -> None:
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def path_of(page: "Page") -> str:
    return re.sub(r"^https?://[^/]+", "", page.url)


def heading(page: "Page") -> str:
    text: str = page.get_by_role("heading", level=1).inner_text()
    return text


def settled(page: "Page") -> None:
    """Wait until charts are drawn and nothing is under way."""
    page.wait_for_load_state("networkidle")
    page.evaluate("document.fonts.ready.then(() => true)")


@pytest.fixture(scope="module")
def hostile(console_server: RunningServer) -> str:
    """A user whose project is full of texts that want to be more than texts."""
    server = console_server
    assert server.command("project", "create", PROJECT).returncode == 0
    done = server.command(
        "user", "create", USER, "--project", PROJECT, "--role", "admin", "--password-stdin",
        text="two secrets",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with server.client(server.token(USER, PROJECT, "two secrets")) as client:
        metric = {"namespace": NAMESPACE, "dimensions": VALUES, "value": 1}
        assert client.post("/v1.1/metrics", json=metric).status_code == 204
        ticked = VALUES["metric_name"].replace('"', "")
        alarm = {
            "name": f"{EVIL}{'n' * 100}",
            "description": f"{EVIL} {HEBREW} {'d' * 100}",
            "expression": f'avg({NAMESPACE}{{metric_name="{ticked}"}}, 60) > 0',
        }
        reply = client.post("/v1.1/alarms", json={"alarm": alarm})
        assert reply.status_code == 201, reply.text
        method = {"name": EVIL, "type": "EMAIL", "address": "joe@mail.com"}
        reply = client.post("/v1.1/notification-methods", json={"notification_method": method})
        assert reply.status_code == 201, reply.text
    return USER


# -- signing in and out ---------------------------------------------------------------------------


def test_a_wrong_password_keeps_the_user_and_says_so(desk: Desk) -> None:
    desk.watch.allow("status of 401")
    page = desk.stranger()
    page.goto("/console/alarms?state=OK")
    assert path_of(page) == "/console/sign-in?next=%2Fconsole%2Falarms%3Fstate%3DOK"
    assert page.evaluate("document.activeElement.id") == "user"
    sign_in(page, password="wrong")
    assert page.get_by_role("alert").inner_text() == "The user or the password is not right."
    assert page.get_by_label("User").input_value() == "demo"
    assert page.get_by_label("Password").input_value() == ""
    assert page.evaluate("document.activeElement.id") == "password"
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/alarms?state=OK")


def test_signing_out_leaves_nothing_to_go_back_to(desk: Desk) -> None:
    page = desk.stranger()
    page.goto("/console")
    sign_in(page)
    assert heading(page) == "demo"
    page.locator("summary", has_text="demo").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/console/sign-in")
    assert not [c for c in page.context.cookies() if c.get("name") == COOKIE]
    page.go_back()
    page.wait_for_url("**/console/sign-in?next=*")
    assert page.get_by_label("Password").is_visible()


def test_signing_out_everywhere_ends_other_browsers(desk: Desk) -> None:
    desk.server.command(
        "user", "create", "leaver", "--project", "demo", "--password-stdin", text="two secrets"
    )
    here, there = desk.stranger(), desk.stranger()
    for page in (here, there):
        page.goto("/console")
        sign_in(page, "leaver", "two secrets")
    here.locator("summary", has_text="leaver").click()
    here.get_by_role("button", name="Sign out everywhere").click()
    here.wait_for_url("**/console/sign-in")
    there.goto("/console")
    assert path_of(there).startswith("/console/sign-in")


@pytest.mark.parametrize("path", ["/console", "/console/metrics?range=24h", "/console/alarms"])
def test_a_session_that_ended_leads_back_after_signing_in(desk: Desk, path: str) -> None:
    page = desk.stranger()
    token = session_of(desk.url, "demo", PASSWORD)
    put_session(page, token)
    opened = page.goto(path)
    assert opened is not None
    skip_if_not_yet(path.partition("?")[0], opened.status)
    settled(page)
    with desk.server.client() as client:
        gone = client.delete(f"/identity/v2.0/tokens/{token}")
        assert gone.status_code == 204
    page.reload()
    sign_in(page)
    page.wait_for_url(f"{desk.url}{path}")


def test_a_page_that_lies_open_when_its_session_ends_leads_back_to_itself(desk: Desk) -> None:
    page = desk.stranger()
    token = session_of(desk.url, "demo", PASSWORD)
    put_session(page, token)
    page.clock.install()
    page.goto("/console")
    with desk.server.client() as client:
        assert client.delete(f"/identity/v2.0/tokens/{token}").status_code == 204
    page.clock.run_for(16_000)
    page.wait_for_url("**/console/sign-in?next=*")
    sign_in(page)
    page.wait_for_url("**/console")


def test_a_form_of_an_earlier_session_is_refused_in_words(desk: Desk) -> None:
    desk.watch.allow("status of 403")
    page = desk.page()
    put_session(page, session_of(desk.url, "demo", PASSWORD))
    page.locator("summary", has_text="demo").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    assert "The form is of another session." in page.get_by_role("alert").inner_text()


# -- the overview ---------------------------------------------------------------------------------


def series(page: "Page") -> int:
    text = page.locator("dt", has_text=re.compile("^Series$")).locator("xpath=../dd").inner_text()
    return int(re.sub(r"\D", "", text))


def test_the_overview_shows_what_the_machine_reports(desk: Desk) -> None:
    page = desk.page()

    def enough() -> bool:
        page.reload()
        return series(page) >= 10

    eventually(enough, pause_s=0.5)
    with desk.server.client() as client:
        found = 0
        for namespace in ("hpcs.compute", "hpcs.volume"):
            params = {"namespace": namespace, "statistics": "count", "start_time": "2026-01-01"}
            found += len(client.get("/v1.1/metrics", params=params).json())
    page.reload()
    assert series(page) >= found >= 10
    assert page.locator("section", has_text="System").get_by_text("Healthy").is_visible()
    steps = page.locator(".checklist li")
    assert steps.count() == 3
    for step, href in zip(steps.all(), ["metrics", "notifications", "alarms/new"], strict=True):
        assert step.get_by_role("link").get_attribute("href") == f"/console/{href}"


def test_the_checklist_ticks_off_what_is_done(desk: Desk, hostile: str) -> None:
    page = desk.page(user=hostile, password="two secrets")
    done = page.locator(".checklist li.done").all_inner_texts()
    assert [" ".join(text.split()) for text in done] == [
        "✓ Post a metric of your own (done)",
        "✓ Create an alarm (done)",
    ]


def test_the_overview_refreshes_itself(desk: Desk) -> None:
    page = desk.stranger()
    token = session_of(desk.url, "demo", PASSWORD)
    put_session(page, token)
    page.clock.install()
    page.goto("/console")
    settled(page)
    with page.expect_response(lambda reply: reply.url == f"{desk.url}/console") as reply:
        page.clock.run_for(16_000)
    assert reply.value.status == 200
    settled(page)
    assert page.locator("#live").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.locator("time", has_text="UTC").count() == 0, "times are the reader's again"


def test_the_project_is_changed_where_it_is_shown(desk: Desk) -> None:
    server = desk.server
    assert server.command("project", "create", "second").returncode == 0
    created = ("user", "create", "two", "--project", "demo", "--password-stdin")
    assert server.command(*created, text="two secrets").returncode == 0
    assert server.command("user", "grant", "two", "--project", "second").returncode == 0
    page = desk.stranger()
    page.goto("/console")
    sign_in(page, "two", "two secrets")
    page.get_by_label("Project").select_option("second")
    page.get_by_role("heading", level=1, name="second").wait_for()
    assert series(page) == 0


def test_without_scripts_one_can_sign_in_change_the_project_and_sign_out(desk: Desk) -> None:
    server = desk.server
    assert server.command("project", "create", "plain").returncode == 0
    created = ("user", "create", "lynx", "--project", "demo", "--password-stdin")
    assert server.command(*created, text="two secrets").returncode == 0
    assert server.command("user", "grant", "lynx", "--project", "plain").returncode == 0
    page = desk.stranger(scripts=False)
    page.goto("/console")
    sign_in(page, "lynx", "two secrets")
    page.get_by_label("Project").select_option("plain")
    page.get_by_role("button", name="Change").click()
    assert heading(page) == "plain"
    assert page.get_by_role("button", name="Copy").count() == 0, "which needs a script"
    page.locator("summary", has_text="lynx").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/console/sign-in")


# -- by keyboard ----------------------------------------------------------------------------------


def focused(page: "Page") -> str:
    text: str = page.evaluate(
        "(document.activeElement.innerText || document.activeElement.id"
        " || document.activeElement.name || document.activeElement.tagName)"
    )
    return " ".join(text.split())


def test_everything_is_reached_by_keyboard_in_the_order_of_the_page(desk: Desk) -> None:
    page = desk.page()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    box = page.get_by_role("link", name="Skip to content").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.reload()
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(focused(page))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"{seen[-1]} does not show that it is chosen"
    wanted = ["Skip to content", "Heliometer", "Signed in as demo", "Overview", "Metrics",
              "Alarms", "Notifications", "Feed", "Meters", "Projects and users"]  # fmt: skip
    places = [next(i for i, text in enumerate(seen) if text.endswith(each)) for each in wanted]
    assert places == sorted(places)


def test_the_menu_opens_and_closes_by_keyboard(desk: Desk) -> None:
    page = desk.page()
    menu = page.locator("details.menu")
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    assert menu.get_by_role("button", name="Sign out", exact=True).is_visible()
    page.keyboard.press("Tab")
    assert focused(page) == "Sign out"
    page.keyboard.press("Escape")
    assert not menu.get_by_role("button", name="Sign out", exact=True).is_visible()
    menu.locator("summary").click()
    page.get_by_role("heading", level=1).click()
    assert not menu.get_by_role("button", name="Sign out", exact=True).is_visible()


@pytest.mark.parametrize("path", PAGES)
def test_nothing_on_a_page_traps_the_keyboard(desk: Desk, path: str) -> None:
    """From the top, Tab comes to every link and field that is shown, and out again."""
    page = desk.page()
    opened = page.goto(path)
    assert opened is not None
    skip_if_not_yet(path, opened.status)
    settled(page)
    total = page.locator("a, button, input, select, textarea, summary, [tabindex]").count()
    seen: list[str] = []
    for _ in range(total + 2):
        page.keyboard.press("Tab")
        where: str = page.evaluate(
            "document.activeElement === document.body ? '' : (() => { const all ="
            " [...document.querySelectorAll('*')]; return String(all.indexOf("
            "document.activeElement)); })()"
        )
        if not where or where in seen:
            break
        seen.append(where)
    assert not where or where == seen[0], "the end was reached"
    assert len(seen) >= 8


# -- every page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/console/sign-in", *PAGES])
def test_every_page_can_be_used_by_everybody(
    desk: Desk, path: str, scheme: str, width: int
) -> None:
    if path == "/console/sign-in":
        page = desk.stranger(width=width, scheme=scheme)
        opened = page.goto(path)
    else:
        page = desk.page(width=width, scheme=scheme)
        opened = page.goto(path)
    assert opened is not None
    skip_if_not_yet(path, opened.status)
    assert opened.status == 200
    settled(page)
    keep_picture(page, path, scheme, width)
    assert_usable(page)


def assert_usable(page: "Page") -> None:
    """One heading, nothing to scroll sideways for, nothing that axe minds."""
    assert page.get_by_role("heading", level=1).count() == 1
    trouble = [*wider_than_the_screen(page), *findings(page)]
    assert not trouble, "\n".join([page.url, *trouble])


def keep_picture(page: "Page", path: str, kind: str, width: int) -> None:
    """Save what the page looks like, where HELIOMETER_SCREENSHOTS says."""
    folder = os.environ.get("HELIOMETER_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = path.removeprefix("/console").strip("/").replace("/", "-") or "overview"
        page.screenshot(path=Path(folder) / f"{name}-{kind}-{width}.png", full_page=True)


def test_refusals_can_be_used_by_everybody(desk: Desk) -> None:
    desk.watch.allow("status of 404")
    for width in (390, 1280):
        for page in (desk.stranger(width=width), desk.page(width=width)):
            page.goto("/console/nowhere")
            assert heading(page) == "There is nothing here"
            assert_usable(page)


# -- hostile texts --------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("path", PAGES)
def test_hostile_texts_are_texts(desk: Desk, hostile: str, path: str, width: int) -> None:
    page = desk.page(user=hostile, password="two secrets", width=width)
    opened = page.goto(path)
    assert opened is not None
    skip_if_not_yet(path, opened.status)
    assert opened.status == 200
    settled(page)
    check_harmless(page)
    assert hostile in page.locator("details.menu summary").inner_text()
    assert PROJECT in page.locator("#project-switch").inner_text()
    keep_picture(page, path, "hostile", width)
    assert_usable(page)


def check_harmless(page: "Page") -> None:
    """No element is there that a text made."""
    assert page.locator("img[onerror], img[src=x], script:not([src])").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    assert "{{" not in page.title()


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_dimensions_are_shown_whole_on_the_pages_of_metrics(
    desk: Desk, hostile: str, width: int
) -> None:
    page = desk.page(user=hostile, password="two secrets", width=width)
    query: Any = {"ns": NAMESPACE, "range": "1h"}
    opened = page.goto(f"/console/metrics?ns={query['ns']}&range={query['range']}")
    assert opened is not None
    skip_if_not_yet("/console/metrics", opened.status)
    settled(page)
    check_harmless(page)
    text = page.locator("main").inner_text()
    for value in VALUES.values():
        assert value in text, value[:40]
    assert_usable(page)


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_alarms_are_shown_as_they_are(desk: Desk, hostile: str, width: int) -> None:
    page = desk.page("/console/alarms", user=hostile, password="two secrets", width=width)
    if page.get_by_role("heading", name="There is nothing here").count():
        desk.watch.allow("status of 404")
        skip_if_not_yet("/console/alarms", 404)
    page.locator("main").get_by_role("link", name=EVIL).first.click()
    page.wait_for_url(re.compile("/console/alarms/[^/]+$"))
    settled(page)
    check_harmless(page)
    assert EVIL in heading(page)
    assert HEBREW in page.locator("main").inner_text()
    assert_usable(page)
    page.goto(f"{page.url}/edit")
    settled(page)
    check_harmless(page)
    assert EVIL in page.get_by_label("Description").input_value()
    assert_usable(page)


def test_a_hostile_user_on_the_sign_in_page(desk: Desk) -> None:
    desk.watch.allow("status of 401")
    page = desk.stranger(width=390)
    page.goto("/console/sign-in")
    sign_in(page, EVIL + '"', "wrong")
    assert page.get_by_label("User").input_value() == EVIL + '"'
    check_harmless(page)
    assert_usable(page)
