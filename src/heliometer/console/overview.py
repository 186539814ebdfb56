"""The first page: an overview of the project."""

from collections import Counter
from collections.abc import Sequence

from starlette.responses import Response

from heliometer.alarms.model import AlarmFilter, State
from heliometer.alarms.service import Alarms
from heliometer.console.notifications import confirmed_only
from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.health import Health
from heliometer.identity.model import Permission
from heliometer.metrics.service import Metrics
from heliometer.notifications.model import FAILED, VERIFIED, DeliveryFilter
from heliometer.notifications.service import Notifications

NEWEST = 8
"""Transitions on the page."""


def section(
    metrics: Metrics, alarms: Alarms, notifications: Notifications, health: Health
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The page at ``/console`` itself."""
    page = OverviewPage(metrics, alarms, notifications, health)
    return (("GET", "", "Overview", page.show, Permission.READ),)


class OverviewPage:
    """Counts, recent alarm activity, and the first steps that are left."""

    def __init__(
        self, metrics: Metrics, alarms: Alarms, notifications: Notifications, health: Health
    ) -> None:
        self._metrics = metrics
        self._alarms = alarms
        self._notifications = notifications
        self._health = health

    async def show(self, request: PageRequest) -> Response:
        caller = request.session.caller
        everything = await self._alarms.find(caller, AlarmFilter())
        names = {alarm.id: alarm.name for alarm in everything}
        states = Counter(alarm.state for alarm in everything if alarm.enabled)
        history = await self._alarms.history(caller, None, None, NEWEST)
        addresses = await self._notifications.list_addresses(caller)
        failed = await self._notifications.deliveries(
            caller, DeliveryFilter(status=FAILED), None, 100
        )
        usage = self._metrics.usage(caller)
        return request.page(
            "overview.html",
            section="overview",
            states=states,
            State=State,
            alarms=len(everything),
            disabled=sum(not alarm.enabled for alarm in everything),
            names=names,
            history=history,
            failed=len(failed),
            usage=usage,
            ingest=await self._metrics.recent(caller),
            trouble=(await self._health.report()).everything,
            steps=[
                (
                    "Post a metric of your own",
                    any(not name.startswith("hpcs.") for name in usage.namespaces),
                    "/console/metrics",
                    "With curl, the command line, or any program that pushes.",
                ),
                (
                    "Verify an address",
                    any(address.state == VERIFIED for address in addresses),
                    "/console/notifications",
                    confirmed_only(),
                ),
                (
                    "Create an alarm",
                    bool(everything),
                    "/console/alarms/new",
                    "Try the threshold on what is stored before you save it.",
                ),
            ],
        )
