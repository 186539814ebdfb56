"""The other processes of a cluster, for the services above the pipeline."""

from collections.abc import Callable, Mapping

from heliometer.cluster.event_bus import EventBus
from heliometer.cluster.events import MetersChanged
from heliometer.cluster.membership import Membership

OWN_VIEW = ("bus", "members")
"""Probes that concern a single process: their result says nothing about any other."""


class ClusterPeers:
    """Exchanges with the other processes what each must know of the rest."""

    def __init__(self, bus: EventBus, members: Membership) -> None:
        self._bus = bus
        self._members = members

    @property
    def any(self) -> bool:
        """Whether other processes may change the data that this one has in memory."""
        return True

    def failed(self) -> Mapping[str, str]:
        """What does not work in other processes, and why."""
        return self._members.failed_elsewhere()

    def report(self, failed: Mapping[str, str]) -> None:
        """Report to the others what does not work here, and why."""
        self._members.report({n: why for n, why in failed.items() if n not in OWN_VIEW})

    async def meters_changed(self, project_id: str) -> None:
        """Tell the others that a project's custom meters changed; returns when they know."""
        await self._bus.tell(MetersChanged(project_id), lambda: self._members.names("api"))

    def on_meters_changed(self, forget: Callable[[str], None]) -> None:
        """Have ``forget`` called with the id of a project whose custom meters changed elsewhere;
        empty if any may have changed."""

        async def forget_all() -> None:
            forget("")

        self._bus.on(MetersChanged, lambda event: forget(event.project_id))
        self._bus.on_connect(forget_all)
