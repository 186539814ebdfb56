"""The console's pages in a project with 100 000 series, and what a browser loads first."""

import gzip
import statistics
import time
from datetime import UTC, datetime
from http.client import HTTPConnection
from urllib.parse import quote, urlencode

from benchmarks.bodies import NAMESPACE, Rounds, heliometer_body
from benchmarks.figures import Figure, Options
from benchmarks.load import drive
from benchmarks.server import PASSWORD, Server

SERIES = 100_000
BATCH = 1000
TIMES = 20
EXPRESSION = f"avg({NAMESPACE}{{host=host-0001, metric_name=metric-001}}) > 5"
PAGES = {
    "overview": "/console",
    "metrics: namespaces": "/console/metrics",
    "metrics: one of many series": f"/console/metrics?ns={NAMESPACE}&d=host:host-0001&range=1h",
    "chart of 100 series": f"/console/metrics/data?ns={NAMESPACE}&d=host:host-0001&range=1h",
    "completion of values": f"/console/metrics/complete?ns={NAMESPACE}&key=host&part=7",
    "completion of keys": f"/console/metrics/complete?ns={NAMESPACE}&d=region:region-1",
    "alarms": "/console/alarms",
    "a new alarm": "/console/alarms/new",
    "checking an expression": f"/console/alarms/check?expression={quote(EXPRESSION)}",
    "notifications": "/console/notifications",
    "feed": "/console/feed",
    "meters": "/console/meters",
    "projects and users": "/console/people",
}
FIRST = ("console.css", "console.js", "htmx.min.js", "icon.svg")
"""What the overview loads besides itself."""


def run(options: Options) -> list[Figure]:
    """Milliseconds of the server for each page, and the size of the first load."""
    series = SERIES // 10 if options.quick else SERIES
    with Server(options.folder / "data") as server:
        token, _ = server.sign_in()
        rounds = Rounds(
            heliometer_body, {"X-Auth-Token": token}, series=series, batch=BATCH,
            start_s=int(time.time()) - 600, step_s=60, rounds=5,
        )  # fmt: skip
        drive(server.address, 1, rounds).require(204)
        browser = _Browser(server.address)
        browser.sign_in()
        browser.get("/console/meters")  # makes its index once, which docs/performance.md tells
        figures = [
            Figure(name, browser.time(path), "ms", at_most=100.0, note=f"{series:,} series")
            for name, path in PAGES.items()
        ]
        size = len(browser.get("/console")[1])
        size += sum(len(browser.get(f"/console/static/{name}")[1]) for name in FIRST)
    return [*figures, Figure("first load, compressed", size / 1000, "kB", at_most=100)]


class _Browser:
    """Asks as a browser does, signed in."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = HTTPConnection(*address)
        self._headers = {"Accept-Encoding": "gzip", "Accept": "*/*"}

    def sign_in(self) -> None:
        """Have a session from now on."""
        form = urlencode({"user": "demo", "password": PASSWORD})
        self._connection.request("POST", "/console/sign-in", form, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self._headers["Cookie"] = cookie

    def get(self, path: str) -> tuple[float, bytes]:
        """Seconds that it took, and the body as it was sent."""
        started = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        took = time.perf_counter() - started
        if answer.status != 200:
            text = gzip.decompress(body) if answer.headers.get("Content-Encoding") else body
            moment = datetime.now(UTC).isoformat()
            raise AssertionError(f"{moment} {path}: {answer.status} {text[-300:]!r}")
        return took, body

    def time(self, path: str) -> float:
        """The median, in milliseconds."""
        return 1000 * statistics.median(self.get(path)[0] for _ in range(TIMES))
