"""Alarms in Ceilometer's form."""

import json
from typing import Any

from heliometer.alarms.expression import parse, subexpressions
from heliometer.alarms.model import Alarm, HistoryEntry, State
from heliometer.api.telemetry import wire
from heliometer.api.telemetry.alarm_rules import threshold_rule
from heliometer.core.errors import Malformed
from heliometer.identity.model import Caller

STATES = {
    State.OK: "ok",
    State.ALARM: "alarm",
    State.FLAPPING: "alarm",
    State.UNDETERMINED: "insufficient data",
}
_STATE_OF = {"ok": State.OK, "alarm": State.ALARM, "insufficient data": State.UNDETERMINED}
FIELDS = (
    "name",
    "state",
    "type",
    "alarm_id",
    "severity",
    "user_id",
    "enabled",
    "meter",
    "meter_name",
)
"""Fields of a query."""
SEVERITIES = {"low": "low", "moderate": "medium", "critical": "critical"}
"""The model's severities by Ceilometer's."""
_SEVERITY_OF = {"low": "low", "medium": "moderate", "high": "critical", "critical": "critical"}
ACTIONS = {
    "alarm_actions": "alarm_actions",
    "ok_actions": "ok_actions",
    "insufficient_data_actions": "undetermined_actions",
}
"""The model's lists of actions by Ceilometer's."""


def alarm_document(caller: Caller, alarm: Alarm, urls: dict[str, str]) -> dict[str, Any]:
    """An alarm; ``urls`` are shown in place of the notification methods with these ids."""
    rule = json.loads(alarm.rule) if alarm.rule else {}
    first = subexpressions(parse(alarm.expression))[0]
    document = {
        "alarm_id": alarm.id,
        "name": alarm.name,
        "description": alarm.description,
        "enabled": alarm.enabled,
        "severity": _SEVERITY_OF[alarm.severity],
        "state": STATES[alarm.state],
        "state_timestamp": wire.iso(alarm.state_since_ms),
        "timestamp": wire.iso(alarm.updated_ms),
        "type": rule.get("type", "threshold"),
        "project_id": alarm.project_id,
        "user_id": caller.user_id,
        "repeat_actions": rule.get("repeat_actions", False),
        "time_constraints": [],
        "threshold_rule": rule.get("threshold_rule") or threshold_rule(first),
        "expression": alarm.expression,
    }
    if "combination_rule" in rule:
        document["combination_rule"] = rule["combination_rule"]
    for theirs, ours in ACTIONS.items():
        document[theirs] = [urls.get(each, each) for each in getattr(alarm, ours)]
    return document


def state_of(text: str) -> State:
    """The state with this name in Ceilometer. Raises MALFORMED."""
    if text not in _STATE_OF:
        raise Malformed(f"Invalid state {text[:40]!r}: must be one of {', '.join(_STATE_OF)}.")
    return _STATE_OF[text]


def check_field(field: str) -> None:
    """Raise MALFORMED unless alarms can be asked for by this field."""
    if field not in FIELDS:
        raise Malformed(f"Unrecognized field in query: {field[:40]}.")


def matches(document: dict[str, Any], field: str, value: str) -> bool:
    """Whether a condition of a query, on a field that exists, selects an alarm."""
    if field in ("meter", "meter_name"):
        return bool(document["threshold_rule"]["meter_name"] == value)
    if field == "enabled":
        return bool(document["enabled"]) == (value.lower() in ("1", "true", "t", "yes"))
    return bool(document[field] == value)


def transition_document(caller: Caller, entry: HistoryEntry) -> dict[str, Any]:
    """An entry of an alarm's history."""
    transition = entry.transition
    detail = {"state": STATES[transition.new]}
    return event_document(
        caller, transition.alarm_id, str(entry.id), "state transition", detail, transition.at_ms
    )


def event_document(
    caller: Caller, alarm_id: str, event_id: str, type_: str, detail: Any, at_ms: int
) -> dict[str, Any]:
    """An event in an alarm's history; ``detail`` becomes JSON text."""
    return {
        "event_id": event_id,
        "alarm_id": alarm_id,
        "type": type_,
        "detail": json.dumps(detail),
        "user_id": "",
        "project_id": caller.project_id,
        "on_behalf_of": caller.project_id,
        "timestamp": wire.iso(at_ms),
    }
