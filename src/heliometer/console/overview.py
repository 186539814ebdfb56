"""The first page: how things are, what happened last, and what is still to be set up."""

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
"""Transitions that are shown."""


def section(
    metrics: Metrics, alarms: Alarms, notifications: Notifications, health: Health
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages."""

    async def overview(visit: PageRequest) -> Response:
        caller = visit.session.caller
        everything = await alarms.find(caller, AlarmFilter())
        names = {alarm.id: alarm.name for alarm in everything}
        states = Counter(alarm.state for alarm in everything if alarm.enabled)
        history = await alarms.history(caller, None, None, NEWEST)
        addresses = await notifications.list_addresses(caller)
        failed = await notifications.deliveries(caller, DeliveryFilter(status=FAILED), None, 100)
        usage = metrics.usage(caller)
        return visit.page(
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
            ingest=await metrics.recent(caller),
            trouble=await health.failed(),
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

    return (("GET", "", "Overview", overview, Permission.READ),)
