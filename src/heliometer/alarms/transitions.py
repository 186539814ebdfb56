"""Which transitions still hold when they are committed, and which count as changes.

Pure: a store reads the alarms, asks here, and writes what is answered in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heliometer.alarms.model import Alarm, State, Transition


@dataclass(frozen=True, slots=True)
class Applicable:
    """The part of an outcome that is to be recorded."""

    transitions: Sequence[tuple[Transition, Alarm]]
    """With the alarm as it was before any of them."""
    rejected: Sequence[str]
    """Ids of alarms that were deleted, disabled or are no longer in the old state."""

    def final(self) -> Mapping[str, Transition]:
        """The last transition of each alarm."""
        return {transition.alarm_id: transition for transition, _ in self.transitions}


def applicable(transitions: Sequence[Transition], alarms: Iterable[Alarm]) -> Applicable:
    """Separate what applies from what does not, given the enabled alarms as they are stored.

    What an earlier commit recorded, whose answer was lost, is in neither.
    """
    stored = {alarm.id: alarm for alarm in alarms}
    state = {alarm.id: alarm.state for alarm in stored.values()}
    # An alarm that has been in a state since exactly the time of a transition into it got there by
    # that transition: it was committed, and so were the alarm's earlier ones of this outcome.
    reached = {(a.id, a.state, a.state_since_ms) for a in stored.values()}
    recorded = {
        t.alarm_id: i for i, t in enumerate(transitions) if (t.alarm_id, t.new, t.at_ms) in reached
    }
    kept: list[tuple[Transition, Alarm]] = []
    rejected: list[str] = []
    for i, transition in enumerate(transitions):
        alarm_id = transition.alarm_id
        if i <= recorded.get(alarm_id, -1):
            continue
        if state.get(alarm_id) is not transition.old:
            rejected.append(alarm_id)
            continue
        kept.append((transition, stored[alarm_id]))
        state[alarm_id] = transition.new
    return Applicable(kept, rejected)


def is_change(old: State, new: State) -> bool:
    """Whether a transition counts towards flapping: calming down from FLAPPING does not."""
    return old is not State.FLAPPING or new is not State.ALARM
