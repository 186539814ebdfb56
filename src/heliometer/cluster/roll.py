"""Whether somebody does each thing that a service must do."""

from heliometer.cluster.changes import Members
from heliometer.model.errors import Code, HeliometerError

NEEDED = ("api", "evaluator", "notifier", "feed")
LATE_S = 60.0


class Roll:
    """Judges by what the processes tell of themselves."""

    def __init__(self, members: Members, parts: int) -> None:
        self._members = members
        self._parts = parts

    def missing(self) -> list[str]:
        """What nobody does, in words."""
        members = self._members.all()
        found = [
            f"no process has the role {role}"
            for role in NEEDED
            if not any(role in m.roles for m in members)
        ]
        owned = {part for m in members for part in m.parts}
        if len(owned) < self._parts:
            found.append(f"{self._parts - len(owned)} of {self._parts} parts have no owner")
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
