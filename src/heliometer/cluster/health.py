"""Whether somebody does each thing that a service must do."""

import time

from heliometer.cluster.membership import Membership
from heliometer.core.errors import Code, HeliometerError

NEEDED = ("api", "evaluator", "notifier", "feed")
LATE_S = 60.0
ORPHANED_S = 15.0
"""A part that moves to another process has no owner for a moment."""


class ClusterHealth:
    """Judges by what the processes tell of themselves."""

    def __init__(self, members: Membership, parts: int) -> None:
        self._members = members
        self._owned_at = dict.fromkeys(range(parts), time.monotonic())

    def missing(self) -> list[str]:
        """What nobody does, in words."""
        members = self._members.all()
        found = [
            f"no process has the role {role}"
            for role in NEEDED
            if not any(role in m.roles for m in members)
        ]
        now = time.monotonic()
        for part in (part for m in members for part in m.parts if part in self._owned_at):
            self._owned_at[part] = now
        orphans = sum(now - at > ORPHANED_S for at in self._owned_at.values())
        if orphans:
            found.append(f"{orphans} of {len(self._owned_at)} parts have no owner")
        if wrong := [m for m in members if m.of not in (0, len(self._owned_at))]:
            where = ", ".join(f"{m.of} for process {m.pid} on {m.host}" for m in wrong)
            found.append(f"bus.partitions is {len(self._owned_at)} here, and {where}")
        late = max((m.lag_s for m in members), default=0)
        if late > LATE_S:
            found.append(f"measurements are stored {late:.0f} s late")
        return found

    def is_punctual(self) -> bool:
        """Whether all alarms are evaluated in time."""
        return not [each for each in self.missing() if "role" not in each or "evaluator" in each]

    async def ping(self) -> None:
        """Raise UNAVAILABLE when something is not done."""
        if missing := self.missing():
            raise HeliometerError(Code.UNAVAILABLE, "; ".join(missing) + ".")
