"""The console in Chromium, steered by Playwright; whatever a page does wrong fails its test."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from conftest import PASSWORD, RunningServer
from console.visitor import COOKIE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
  `policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile} ${event.sample}`));
"""
PATH = "/console"
TIMEOUT_MS = 10_000


@dataclass
class Watch:
    """Everything that goes wrong in the pages of a test."""

    url: str
    trouble: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """Let the test go on with trouble like this, which it makes on purpose."""
        self.allowed.append(pattern)

    def on(self, context: "BrowserContext") -> None:
        """Watch all pages of a context."""
        context.add_init_script(TELL_VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.trouble.append(f"script: {error.error}"))
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("page", lambda page: page.on("dialog", self._dialog))

    def check(self) -> None:
        """Nothing may have gone wrong."""
        left = [t for t in self.trouble if not any(re.search(a, t) for a in self.allowed)]
        assert not left, "\n".join(left)

    def _console(self, message: Any) -> None:
        # Chromium counts as an error also what a page answers to a wrong form.
        if message.type in ("error", "warning"):
            self.trouble.append(f"console: {message.text} {message.location.get('url', '')}")

    def _request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and not request.url.startswith(f"{self.url}/"):
            self.trouble.append(f"request to another host: {request.url}")

    def _failed(self, request: Any) -> None:
        # What a page that is left has asked for, nobody waits for.
        if request.failure != "net::ERR_ABORTED":
            self.trouble.append(f"request failed: {request.url} {request.failure}")

    def _dialog(self, dialog: Any) -> None:
        if dialog.type == "confirm":
            dialog.accept()
        else:
            self.trouble.append(f"dialog: {dialog.message}")
            dialog.dismiss()


@dataclass
class Desk:
    """Where somebody sits down before the console."""

    server: RunningServer
    browser: "Browser"
    watch: Watch
    sessions: dict[str, str]
    """Tokens of users who are signed in."""
    contexts: list["BrowserContext"] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self.server.url

    def stranger(self, *, width: int = 1280, scheme: Any = "light", scripts: bool = True) -> "Page":
        """A page of a browser that nobody has signed in with."""
        context = self.browser.new_context(
            base_url=self.url,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",
            java_script_enabled=scripts,
        )
        context.set_default_timeout(TIMEOUT_MS)
        self.contexts.append(context)
        self.watch.on(context)
        return context.new_page()

    def page(
        self, path: str = "/console", user: str = "demo", password: str = PASSWORD, **how: Any
    ) -> "Page":
        """A page that a user, who signs in only once for all tests, looks at."""
        if user not in self.sessions:
            self.sessions[user] = session_of(self.url, user, password)
        page = self.stranger(**how)
        put_session(page, self.sessions[user])
        page.goto(path)
        return page


def session_of(url: str, user: str, password: str) -> str:
    """A new session's token."""
    fields = {"user": user, "password": password}
    reply = httpx.post(f"{url}/console/sign-in", data=fields)
    assert reply.status_code == 303, reply.text
    return str(reply.cookies[COOKIE])


def put_session(page: "Page", token: str) -> None:
    """Have the page's browser be signed in."""
    page.context.add_cookies(
        [{"name": COOKIE, "value": token, "domain": "127.0.0.1", "path": PATH}]
    )


@pytest.fixture(scope="session")
def console_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that reports its machine every second."""
    running = RunningServer(
        tmp_path_factory.mktemp("browser") / "var",
        {"HELIOMETER_COLLECTOR_INTERVAL": "1", "HELIOMETER_LIMITS_SIGN_IN_FAILURES": "100"},
    ).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """One browser for all tests; each has contexts of its own."""
    api = pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def sessions() -> dict[str, str]:
    """Tokens of users who are signed in."""
    return {}


@pytest.fixture
def watch(console_server: RunningServer) -> Watch:
    """Sees what goes wrong; ``desk`` fails the test for it."""
    return Watch(console_server.url)


@pytest.fixture
def desk(
    console_server: RunningServer,
    chromium: "Browser",
    watch: Watch,
    sessions: dict[str, str],
) -> Iterator[Desk]:
    """A place before the console; its browsers are closed after the test."""
    made = Desk(console_server, chromium, watch, sessions)
    yield made
    for context in made.contexts:
        context.close()
    watch.check()
