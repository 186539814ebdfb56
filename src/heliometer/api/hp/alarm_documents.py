"""The JSON of v1.1's alarms (§4.4.6); beyond the document: history, explanation, dry run."""

from typing import Any

from heliometer.alarms.dry_run import DryRun
from heliometer.alarms.engine.model import Explanation
from heliometer.alarms.model import Alarm, Finding, HistoryEntry, State, Transition
from heliometer.api.hp import wire
from heliometer.http.operation import Call

STATES = ("UNDETERMINED", "OK", "ALARM")
"""The states that the document has (v1.1 §4.4.6)."""
SERIES = 100
"""Most matching series in an explanation."""


def alarm_path(alarm_id: str) -> str:
    """The path of an alarm, for links and Location."""
    return f"/v1.1/alarms/{alarm_id}"


def alarm_document(call: Call, alarm: Alarm) -> dict[str, Any]:
    """An alarm (§4.4.6.1); the fields after ``alarm_actions`` are beyond the document."""
    return {
        "id": alarm.id,
        "links": wire.self_link(call, alarm_path(alarm.id)),
        "name": alarm.name,
        "expression": alarm.expression,
        "state": _shown(alarm.state),
        "alarm_actions": alarm.alarm_actions,
        "ok_actions": alarm.ok_actions,
        "undetermined_actions": alarm.undetermined_actions,
        "description": alarm.description,
        "severity": alarm.severity,
        "enabled": alarm.enabled,
        "flapping": alarm.state is State.FLAPPING,
        "state_since": wire.iso(alarm.state_since_ms),
        "created_at": wire.iso(alarm.created_ms),
        "updated_at": wire.iso(alarm.updated_ms),
    }


def entry_document(entry: HistoryEntry) -> dict[str, Any]:
    """A transition with its notifications and their delivery status."""
    return {
        "id": entry.id,
        "alarm_id": entry.transition.alarm_id,
        **transition_document(entry.transition),
        "notifications": [
            {
                "id": d.id,
                "notification_method_id": d.method_id,
                "type": d.type,
                "address": d.address,
                "status": d.status,
                "reason": d.reason,
                "attempts": d.attempts,
                "at": wire.iso(d.at_ms),
            }
            for d in entry.deliveries
        ],
    }


def explanation_document(
    alarm: Alarm, explanation: Explanation, last: HistoryEntry | None
) -> dict[str, Any]:
    """Why an alarm is in its state."""
    return {
        "alarm_id": alarm.id,
        "name": alarm.name,
        "expression": alarm.expression,
        "state": _shown(explanation.state),
        "flapping": explanation.state is State.FLAPPING,
        "state_since": wire.iso(alarm.state_since_ms),
        "minute": wire.iso(explanation.minute_ms),
        "truth": explanation.truth,
        "unknown_evaluations": explanation.unknown,
        "undetermined_after": explanation.patience,
        "subexpressions": [
            {
                **finding_document(each.finding),
                "series": [dict(s.dimensions) for s in each.series[:SERIES]],
                "last_measurement": {"at": wire.iso(each.last_ms), "value": each.last_value}
                if each.last_ms
                else None,
            }
            for each in explanation.subexpressions
        ],
        "last_transition": entry_document(last) if last else None,
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """The values that a subexpression was evaluated on, and the outcome."""
    return {
        "subexpression": finding.text,
        "truth": finding.truth,
        "function": finding.function,
        "operator": finding.operator,
        "threshold": finding.threshold,
        "windows": [
            {"start": wire.iso(w.start_ms), "end": wire.iso(w.end_ms), "value": w.value}
            for w in finding.windows
        ],
        "matching_series": finding.matching,
        "series": [{"dimensions": dict(s.dimensions), "value": s.value} for s in finding.series],
    }


def transition_document(transition: Transition) -> dict[str, Any]:
    """A change of state with the findings behind it."""
    return {
        "at": wire.iso(transition.at_ms),
        "old_state": _shown(transition.old),
        "new_state": _shown(transition.new),
        "flapping": transition.new is State.FLAPPING,
        "minute": wire.iso(transition.minute_ms),
        "at_once": transition.at_once,
        "reason": [finding_document(f) for f in transition.findings],
    }


def dry_run_document(dry_run: DryRun, *, values: bool, most: int | None = None) -> dict[str, Any]:
    """The outcome of a dry run, with its first ``most`` transitions."""
    shown = dry_run.transitions[:most]
    stays = _stays(dry_run)
    seconds = dict.fromkeys(STATES, 0.0)
    for state, start, end in stays:
        seconds[state] += (end - start) / 1000
    spans = [(start, end) for state, start, end in stays if state == "ALARM"]
    document: dict[str, Any] = {
        "start_time": wire.iso(dry_run.start_ms),
        "end_time": wire.iso(dry_run.end_ms),
        "transitions": [transition_document(t) for t in shown],
        "transitions_left_out": len(dry_run.transitions) - len(shown),
        "alarms": len(spans),
        "seconds_in_alarm": seconds["ALARM"],
        "seconds": seconds,
        "spans": [{"start": wire.iso(start), "end": wire.iso(end)} for start, end in spans],
    }
    if values:
        document["minutes"] = [m // 1000 for m in dry_run.minutes_ms]
        document["values"] = [list(v) for v in dry_run.values]
    return document


def _stays(dry_run: DryRun) -> list[tuple[str, int, int]]:
    """Each state as v1.1 shows it, with its start and end in milliseconds."""
    stays: list[tuple[str, int, int]] = []
    state, since = _shown(State.UNDETERMINED), dry_run.start_ms
    for transition in dry_run.transitions:
        if _shown(transition.new) != state:
            stays.append((state, since, transition.at_ms))
            state, since = _shown(transition.new), transition.at_ms
    return [*stays, (state, since, dry_run.end_ms)]


def _shown(state: State) -> str:
    """The state in v1.1, which has no FLAPPING."""
    return State.ALARM.value if state is State.FLAPPING else state.value
