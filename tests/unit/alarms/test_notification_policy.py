"""Who is notified of a transition, and what is withheld."""

from itertools import count

import pytest

from heliometer.alarms.model import Alarm, Finding, State, Transition
from heliometer.alarms.notification_policy import (
    Recipient,
    Recorded,
    deliveries,
    methods_to_notify,
    withheld_because,
)
from heliometer.alarms.reason import findings_of

U, OK, ALARM, FLAPPING = State.UNDETERMINED, State.OK, State.ALARM, State.FLAPPING
MAIL = Recipient("mail", "EMAIL", "joe@mail.com", is_verified=True)
HOOK = Recipient("hook", "WEBHOOK", "https://x.se/", is_verified=False)
RECIPIENTS = {"mail": MAIL, "hook": HOOK}
BUSY = Alarm(
    "a1", "p", "Busy", "cpu > 1", "max(cpu) > 1", 1, 1, severity="high", description="Too much",
    alarm_actions=("mail", "hook"), ok_actions=("hook",), undetermined_actions=("gone",),
)  # fmt: skip


def change(old: State, new: State, at: int = 1000) -> Transition:
    finding = Finding("cpu > 1", True, "max", ">", 1.0, (), 1)
    return Transition(BUSY.id, at, 960, old, new, True, (finding,))


@pytest.mark.parametrize(("new", "methods"), [
    (ALARM, ["mail", "hook"]), (OK, ["hook"]), (U, ["gone"]), (FLAPPING, []),
])  # fmt: skip
def test_each_state_has_its_own_methods(new: State, methods: list[str]) -> None:
    assert list(methods_to_notify(change(ALARM, new), BUSY)) == methods


@pytest.mark.parametrize(("old", "new", "recipient", "reason"), [
    (OK, ALARM, MAIL, ""),
    (OK, ALARM, HOOK, ""),
    (OK, ALARM, Recipient("m", "SMS", "+46", is_verified=False), "the address is not verified"),
    (FLAPPING, OK, MAIL, "the alarm is flapping"),
    (FLAPPING, U, HOOK, "the alarm is flapping"),
    (FLAPPING, ALARM, MAIL, ""),
])  # fmt: skip
def test_what_is_withheld_says_why(
    old: State, new: State, recipient: Recipient, reason: str
) -> None:
    assert withheld_because(change(old, new), recipient) == reason


def test_deliveries_are_in_the_order_of_the_transitions() -> None:
    numbers = count(1)
    recorded = [
        Recorded(7, change(OK, ALARM), BUSY, "shop"),
        Recorded(8, change(ALARM, U, 2000), BUSY, "shop"),
        Recorded(9, change(U, OK, 3000), BUSY, "shop"),
    ]
    made = deliveries(recorded, RECIPIENTS, lambda: f"d{next(numbers)}")
    assert [(d.id, d.transition_id, d.method_id) for d in made] == [
        ("d1", 7, "mail"), ("d2", 7, "hook"), ("d3", 9, "hook"),
    ]  # fmt: skip
    assert {d.status for d in made} == {"pending"}
    assert [d.next_attempt_ms for d in made] == [1000, 1000, 3000]


def test_a_message_is_made_of_the_alarm_and_the_transition() -> None:
    transition = change(OK, ALARM)
    (made, _) = deliveries([Recorded(7, transition, BUSY, "shop")], RECIPIENTS, lambda: "d")
    payload = dict(made.payload)
    reason = payload.pop("reason")
    assert findings_of(reason) == transition.findings
    assert (reason["minute_ms"], reason["at_once"]) == (960, True)
    assert payload == {
        "alarm_id": "a1", "name": "Busy", "description": "Too much", "severity": "high",
        "expression": "cpu > 1", "project_name": "shop", "old": "OK", "new": "ALARM",
        "at_ms": 1000,
    }  # fmt: skip


def test_a_withheld_delivery_is_never_due() -> None:
    (made,) = deliveries([Recorded(7, change(FLAPPING, OK), BUSY, "shop")], RECIPIENTS, str)
    assert (made.status, made.reason) == ("withheld", "the alarm is flapping")


def test_a_disabled_project_notifies_nobody() -> None:
    recorded = Recorded(7, change(OK, ALARM), BUSY, "shop", project_enabled=False)
    made = deliveries([recorded], RECIPIENTS, lambda: "d")
    assert {(d.status, d.reason) for d in made} == {("withheld", "the project is disabled")}
