"""The console: server-rendered pages over the use cases, at ``/console/``.

A page is a function of a *visit* (``visit.py``) and a template; what it shows comes from the same
use cases as the dialects' answers. Scripts only refresh what is there, draw charts and check what
is typed: every form works without them.
"""

from dataclasses import dataclass

from starlette.responses import Response

from heliometer.alarms.service import Alarms
from heliometer.console import alarms, feed, meters, metrics, notifications, overview, people
from heliometer.console import sign_in as signing_in
from heliometer.console.page_request import environment, html_response, pages, static
from heliometer.console.session import Sessions
from heliometer.core.errors import HeliometerError
from heliometer.core.health import Health
from heliometer.feed.service import Streams
from heliometer.http.operation import STATUS, Dialect, Operation
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.signing import Identity
from heliometer.meters.samples import Samples
from heliometer.meters.service import Meters
from heliometer.metrics.service import Metrics
from heliometer.notifications.service import Notifications
from heliometer.notifications.verification import Validation
from heliometer.projects.metering import Metering


@dataclass(frozen=True, slots=True)
class UseCases:
    """Everything that pages are made of."""

    metrics: Metrics
    metering: Metering
    alarms: Alarms
    notifications: Notifications
    validation: Validation
    streams: Streams
    meters: Meters
    samples: Samples
    health: Health


def dialect(identity: Identity, use: UseCases) -> Dialect:
    """The pages, mounted like a dialect: they are one for people."""
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
