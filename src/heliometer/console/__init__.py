"""The console: server-rendered pages at ``/console/``.

A section is a module with a class whose methods take a ``PageRequest`` and return a page; a
section's list of pages is its ``section`` function. Pages show what the same services return to
the dialects. Scripts only refresh, draw and validate: every form works without them.
"""

from collections.abc import Sequence

from starlette.responses import Response

from heliometer.api.services import Services
from heliometer.console import (
    account,
    alarms,
    audit,
    feed,
    members,
    meters,
    metrics,
    notifications,
    overview,
    people,
)
from heliometer.console.invitation import InvitationPage
from heliometer.console.page_request import SOURCE, Handler, pages
from heliometer.console.rendering import environment, html_response
from heliometer.console.session import Sessions
from heliometer.console.sign_in import SignIn
from heliometer.console.static_files import static_file
from heliometer.core.errors import HeliometerError
from heliometer.http.operation import STATUS, Dialect, Operation
from heliometer.identity.builtin.service import BuiltinIdentity
from heliometer.identity.invitations import Invitations
from heliometer.identity.model import Permission
from heliometer.identity.ports import Identity

Section = Sequence[tuple[str, str, str, Handler, Permission]]


def dialect(services: Services) -> Dialect:
    """The pages, mounted as a dialect for people."""
    use, identity = services, services.identity
    sessions, invited = Sessions(identity), use.invitations
    sections = (
        overview.section(use.metrics, use.alarms, use.notifications, use.health),
        metrics.section(use.metrics),
        alarms.section(use.alarms, use.notifications, use.metrics),
        notifications.section(use.notifications, use.validation),
        feed.section(use.streams, use.samples),
        meters.section(use.meters, use.metering),
        audit.section(use.audit),
        *_people(identity, invited),
    )
    return Dialect(
        "console",
        "The console",
        "/console",
        (
            Operation("GET", "/static/{name}", "A file of the console", SOURCE, static_file,
                      foreign=True),
            *SignIn(sessions).operations(),
            *(InvitationPage(sessions, invited).operations() if invited else ()),
            *(page for section in sections for page in pages(sessions, section)),
        ),
        render_fault,
        is_api=False,
    )  # fmt: skip


def _people(identity: Identity, invitations: Invitations | None) -> Sequence[Section]:
    if not isinstance(identity, BuiltinIdentity):
        return (people.elsewhere(),)
    return (
        account.section(identity),
        members.section(identity, invitations),
        people.section(identity, invitations),
    )


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """A page for faults outside a session, such as unknown paths."""
    html = environment().get_template("fault.html").render(error=error, request_id=request_id)
    return html_response(None, html, STATUS[error.code])
