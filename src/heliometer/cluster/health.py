"""Whether the processes of a cluster together do everything that the service must do."""

import time

from heliometer.cluster.membership import Membership
from heliometer.core.errors import Code, HeliometerError

NEEDED = ("api", "evaluator", "notifier", "feed")
LATE_S = 60.0
ORPHANED_S = 15.0
"""How long a shard may have no owner while it moves to another process, in seconds."""


class ClusterHealth:
    """Judges by the reports of the processes."""

    def __init__(self, members: Membership, shards: int) -> None:
        self._members = members
        self._owned_at = dict.fromkeys(range(shards), time.monotonic())

    def missing(self) -> list[str]:
        """The duties that no process performs, in words."""
        roles = [f"no process has the role {role}" for role in self._missing_roles()]
        return roles + self._shard_troubles()

    def is_punctual(self) -> bool:
        """Whether all alarms are being evaluated in time."""
        return "evaluator" not in self._missing_roles() and not self._shard_troubles()

    async def ping(self) -> None:
        """Raise UNAVAILABLE when a duty is not performed."""
        if missing := self.missing():
            raise HeliometerError(Code.UNAVAILABLE, "; ".join(missing) + ".")

    def _missing_roles(self) -> list[str]:
        return [role for role in NEEDED if not self._members.with_role(role)]

    def _shard_troubles(self) -> list[str]:
        members, shards = self._members.all(), len(self._owned_at)
        now = time.monotonic()
        for shard in (shard for m in members for shard in m.parts if shard in self._owned_at):
            self._owned_at[shard] = now
        found = []
        orphans = sum(now - at > ORPHANED_S for at in self._owned_at.values())
        if orphans:
            found.append(f"{orphans} of {shards} shards have no owner")
        if wrong := [m for m in members if m.of not in (0, shards)]:
            where = ", ".join(f"{m.of} for process {m.pid} on {m.host}" for m in wrong)
            found.append(f"bus.partitions is {shards} here, and {where}")
        late = max((m.lag_s for m in members), default=0)
        if late > LATE_S:
            found.append(f"measurements are stored {late:.0f} s late")
        return found
