"""The other processes of a cluster, as the service on top of the pipeline sees them."""

from collections.abc import Callable, Mapping

from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import MetersChanged
from heliometer.cluster.membership import Membership

OWN_VIEW = ("bus", "members")
"""Probes that every process makes for itself: what one finds there says nothing of another."""


class ClusterPeers:
    """Tells the other processes what they must know of this one, and the reverse."""

    def __init__(self, bus: EventBus, members: Membership) -> None:
        self._bus = bus
        self._members = members

    @property
    def any(self) -> bool:
        """Whether others may change what this process knows."""
        return True

    def failed(self) -> Mapping[str, str]:
        """What others found not to work, and why."""
        return self._members.failed_elsewhere()

    def report(self, failed: Mapping[str, str]) -> None:
        """Tell them what does not work here, and why."""
        self._members.report({n: why for n, why in failed.items() if n not in OWN_VIEW})

    async def meters_changed(self, project_id: str) -> None:
        """Tell them of a project whose custom meters changed; return when they know."""
        await self._bus.tell(MetersChanged(project_id), lambda: self._members.names("api"))

    def on_meters_changed(self, forget: Callable[[str], None]) -> None:
        """Have ``forget`` called with a project whose custom meters changed elsewhere, or with an
        empty id when that may be any."""

        async def forget_all() -> None:
            forget("")

        self._bus.on(MetersChanged, lambda event: forget(event.project_id))
        self._bus.on_connect(forget_all)
