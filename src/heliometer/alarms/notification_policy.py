"""Who is notified of a transition, what is withheld and why, and what the message is made of.

Pure: a store reads the methods, asks here, and writes the deliveries into the outbox in the
transaction that records the transition.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliometer.alarms.model import Alarm, State, Transition
from heliometer.alarms.reason import reason_document
from heliometer.notifications.channels import needs_confirmation
from heliometer.notifications.checks import NOT_VERIFIED, PROJECT_DISABLED
from heliometer.notifications.model import (
    ALARM_MESSAGE,
    PENDING,
    WITHHELD,
    Delivery,
)

ACTIONS: Mapping[str, State] = {
    "alarm_actions": State.ALARM,
    "ok_actions": State.OK,
    "undetermined_actions": State.UNDETERMINED,
}
"""An alarm's lists of notification methods, and the state that each is for. There is none for
FLAPPING."""
_LIST_FOR = {state: name for name, state in ACTIONS.items()}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A transition that was written to the history."""

    id: int
    transition: Transition
    alarm: Alarm
    project_name: str
    project_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Recipient:
    """A notification method as it is when the transition is committed."""

    method_id: str
    type: str
    address: str
    is_verified: bool
    """Whether the project has proved that it may send to the address."""


def methods_to_notify(transition: Transition, alarm: Alarm) -> Sequence[str]:
    """Ids of the notification methods that the alarm names for its new state."""
    actions = _LIST_FOR.get(transition.new)
    methods: Sequence[str] = getattr(alarm, actions) if actions else ()
    return methods


def deliveries(
    recorded: Sequence[Recorded],
    recipients: Mapping[str, Recipient],
    new_id: Callable[[], str],
) -> list[Delivery]:
    """What goes into the outbox, in the order of the transitions; methods that are gone get
    nothing.

    ``recipients`` holds by id the methods that ``methods_to_notify`` named; ``new_id`` makes the
    ids of deliveries.
    """
    return [
        _delivery(each, recipients[method_id], new_id())
        for each in recorded
        for method_id in methods_to_notify(each.transition, each.alarm)
        if method_id in recipients
    ]


def withheld_because(transition: Transition, recipient: Recipient) -> str:
    """Why the recipient is not notified; empty when it is."""
    if transition.old is State.FLAPPING and transition.new is not State.ALARM:
        return "the alarm is flapping"
    if needs_confirmation(recipient.type) and not recipient.is_verified:
        return NOT_VERIFIED
    return ""


def _delivery(recorded: Recorded, recipient: Recipient, delivery_id: str) -> Delivery:
    transition, alarm = recorded.transition, recorded.alarm
    reason = withheld_because(transition, recipient)
    if not recorded.project_enabled:
        reason = PROJECT_DISABLED
    return Delivery(
        id=delivery_id,
        kind=ALARM_MESSAGE,
        project_id=alarm.project_id,
        type=recipient.type,
        address=recipient.address,
        method_id=recipient.method_id,
        alarm_id=alarm.id,
        transition_id=recorded.id,
        status=WITHHELD if reason else PENDING,
        reason=reason,
        attempts=0,
        created_ms=transition.at_ms,
        next_attempt_ms=transition.at_ms,
        changed_ms=transition.at_ms,
        started_ms=transition.at_ms,
        payload=_payload(recorded),
    )


def _payload(recorded: Recorded) -> dict[str, Any]:
    """What a message says of the alarm and the transition (``notifications.messages`` words it)."""
    transition, alarm = recorded.transition, recorded.alarm
    return {
        "alarm_id": alarm.id,
        "name": alarm.name,
        "description": alarm.description,
        "severity": alarm.severity,
        "expression": alarm.expression,
        "project_name": recorded.project_name,
        "old": transition.old.value,
        "new": transition.new.value,
        "at_ms": transition.at_ms,
        "reason": reason_document(transition),
    }
