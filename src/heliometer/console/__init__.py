"""The console: server-rendered pages over the use cases, at ``/console/``.

A page is a function of a *visit* (``visit.py``) and a template; what it shows comes from the same
use cases as the dialects' answers. Scripts only refresh what is there, draw charts and check what
is typed: every form works without them.
"""

from starlette.responses import Response

from heliometer.api.services import Services
from heliometer.console import alarms, feed, meters, metrics, notifications, overview, people
from heliometer.console import sign_in as signing_in
from heliometer.console.page_request import environment, html_response, pages, static
from heliometer.console.session import Sessions
from heliometer.core.errors import HeliometerError
from heliometer.http.operation import STATUS, Dialect, Operation
from heliometer.identity.builtin.service import BuiltinIdentity


def dialect(services: Services) -> Dialect:
    """The pages, mounted like a dialect: they are one for people."""
    identity, use = services.identity, services
    sessions = Sessions(identity)
    sections = (
        overview.section(use.metrics, use.alarms, use.notifications, use.health),
        metrics.section(use.metrics),
        alarms.section(use.alarms, use.notifications, use.metrics),
        notifications.section(use.notifications, use.validation),
        feed.section(use.streams, use.samples),
        meters.section(use.meters, use.metering),
        people.section(identity) if isinstance(identity, BuiltinIdentity) else people.elsewhere(),
    )
    return Dialect(
        "console",
        "The console",
        "/console",
        (
            Operation("GET", "/static/{name}", "A file of the console", signing_in.SOURCE, static,
                      foreign=True),
            *signing_in.operations(sessions),
            *(page for section in sections for page in pages(sessions, section)),
        ),
        render_fault,
        is_api=False,
    )  # fmt: skip


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """A page for who is not signed in, or whom the application itself says no to."""
    html = environment().get_template("fault.html").render(error=error, request_id=request_id)
    return html_response(None, html, STATUS[error.code])
