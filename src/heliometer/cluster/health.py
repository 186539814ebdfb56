"""Whether the processes of a cluster together do everything that the service must do."""

import time
from collections.abc import Mapping

from heliometer.cluster.membership import Membership
from heliometer.core.errors import Code, HeliometerError

NEEDED = ("api", "evaluator", "notifier", "feed")
LATE_S = 60.0
ORPHANED_S = 15.0
"""How long a shard may have no owner while it moves to another process, in seconds."""


class ClusterHealth:
    """Judges by the reports of the processes."""

    def __init__(
        self, members: Membership, shards: int, expected: Mapping[str, int] | None = None
    ) -> None:
        """``expected``: how many processes should have each role; at least one if it is needed and
        not named."""
        self._members = members
        self._expected = {**dict.fromkeys(NEEDED, 1), **(expected or {})}
        self._owned_at = dict.fromkeys(range(shards), time.monotonic())

    def missing(self) -> list[str]:
        """The duties that no process performs, in words."""
        return self._role_troubles() + self._shard_troubles()

    def is_punctual(self) -> bool:
        """Whether all alarms are being evaluated in time."""
        evaluators = self._members.with_role("evaluator")
        return self._members.is_known and bool(evaluators) and not self._shard_troubles()

    async def ping(self) -> None:
        """Raise UNAVAILABLE when a duty is not performed, or that is not known."""
        if not self._members.is_known:
            raise HeliometerError(
                Code.UNAVAILABLE,
                "It is not known which processes run: RabbitMQ does not connect them, or has only "
                "just done so.",
            )
        if missing := self.missing():
            raise HeliometerError(Code.UNAVAILABLE, "; ".join(missing) + ".")

    def running(self) -> Mapping[str, float]:
        """How many processes have each role that is needed or expected; nothing if unknown."""
        if not self._members.is_known:
            return {}
        return {role: float(len(self._members.with_role(role))) for role in self._expected}

    def expected(self) -> Mapping[str, float]:
        """How many should have it."""
        return {role: float(count) for role, count in self._expected.items()}

    def _role_troubles(self) -> list[str]:
        found = []
        for role, count in self._expected.items():
            there = len(self._members.with_role(role))
            if count and not there:
                found.append(f"no process has the role {role}")
            elif there < count:
                found.append(f"{there} of {count} processes with the role {role} are there")
        return found

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
