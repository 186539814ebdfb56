"""Alarms of v1.1 (§4.4.6); beyond the document: change, history, explanation, dry run."""

from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.alarms.engine import Explanation
from heliometer.alarms.replay import Replay
from heliometer.dialects.hp import wire
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.model.alarms import (
    SEVERITIES,
    Alarm,
    AlarmFilter,
    Finding,
    HistoryEntry,
    State,
    Transition,
)
from heliometer.model.errors import Malformed
from heliometer.model.identity import Permission
from heliometer.usecases.alarms import Alarms, Definition

PAGE = 1000
HISTORY = 50
"""Entries of history in an answer unless another limit is given."""


class AlarmFields(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the owner of an alarm decides. Beyond the document: description, severity, enabled,
    ok_actions, undetermined_actions."""

    name: str | None = None
    expression: str | None = None
    alarm_actions: list[str] | None = None
    ok_actions: list[str] | None = None
    undetermined_actions: list[str] | None = None
    description: str | None = None
    severity: str | None = None
    enabled: bool | None = None


class AlarmBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request to create or change an alarm."""

    alarm: AlarmFields


class DryRunBody(msgspec.Struct, forbid_unknown_fields=True):
    """An expression to be tried on the stored measurements."""

    expression: str
    start_time: str
    end_time: str | None = None
    values: bool = False


def operations(alarms: Alarms) -> tuple[Operation, ...]:
    """The operations of v1.1."""

    async def create(call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        alarm = await alarms.create(call.caller, _definition(wanted))
        return wire.created(call, _path(alarm.id), {"alarm": _document(call, alarm)})

    async def find(call: Call) -> Response:
        query = call.request.query_params
        marker, limit = wire.page(call, PAGE)
        states = {wire.one_of("state", s, _STATES) for s in _words(call, "state")}
        enabled = wire.only(query, "enabled")
        wanted = AlarmFilter(
            name=wire.only(query, "name"),
            states=frozenset(State(s) for s in states)
            | ({State.FLAPPING} if "ALARM" in states else frozenset()),
            severities=frozenset(
                wire.one_of("severity", s, SEVERITIES) for s in _words(call, "severity")
            ),
            enabled=None
            if enabled is None
            else wire.one_of("enabled", enabled, ("true", "false")) == "true",
            method_id=wire.only(query, "notification_method_id"),
        )
        found = await alarms.find(call.caller, wanted, marker, limit + 1 if limit else 1 << 31)
        more = limit is not None and len(found) > limit
        found = found[:limit]
        document: dict[str, Any] = {"alarms": [_document(call, a) for a in found]}
        if limit is not None:
            last = found[-1].id if more else None
            document["links"] = wire.next_link(call, "/v1.1/alarms", last)
        return wire.json_response(document)

    async def get(call: Call) -> Response:
        alarm = await alarms.get(call.caller, call.path_params["alarm_id"])
        return wire.json_response({"alarm": _document(call, alarm)})

    async def put(call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        for field in ("name", "expression"):
            if getattr(wanted, field) is None:
                raise Malformed(f"alarm.{field}: is missing.")
        whole = AlarmFields(
            alarm_actions=[], ok_actions=[], undetermined_actions=[], description="",
            severity="medium", enabled=True,
        )  # fmt: skip
        for field in wanted.__struct_fields__:
            if getattr(wanted, field) is not None:
                setattr(whole, field, getattr(wanted, field))
        return await _update(call, whole)

    async def patch(call: Call) -> Response:
        return await _update(call, (await wire.body(call, AlarmBody)).alarm)

    async def _update(call: Call, wanted: AlarmFields) -> Response:
        changed = await alarms.update(
            call.caller, call.path_params["alarm_id"], _definition(wanted)
        )
        return wire.json_response({"alarm": _document(call, changed)})

    async def delete(call: Call) -> Response:
        await alarms.delete(call.caller, call.path_params["alarm_id"])
        return Response(status_code=204)

    async def history(call: Call) -> Response:
        alarm_id = call.path_params.get("alarm_id")
        marker, given = wire.page(call, PAGE)
        limit = given or HISTORY
        before = wire.whole_number("marker", marker, 1, 10**11) if marker else None
        found = await alarms.history(call.caller, alarm_id, before, limit + 1)
        more, found = len(found) > limit, found[:limit]
        path = f"{_path(alarm_id)}/history" if alarm_id else "/v1.1/alarms/history"
        return wire.json_response(
            {
                "history": [_entry(e) for e in found],
                "links": wire.next_link(call, path, str(found[-1].id) if more else None),
            }
        )

    async def explain(call: Call) -> Response:
        alarm, explanation = await alarms.explain(call.caller, call.path_params["alarm_id"])
        return wire.json_response({"explanation": _explained(alarm, explanation)})

    async def dry_run(call: Call) -> Response:
        wanted = await wire.body(call, DryRunBody)
        start = wire.time_ms("start_time", wanted.start_time)
        end = wire.time_ms("end_time", wanted.end_time) if wanted.end_time else None
        replay = await alarms.dry_run(call.caller, wanted.expression, start, end)
        return wire.json_response({"dry_run": replay_document(replay, values=wanted.values)})

    example = {
        "alarm": {
            "name": "Orders stay away",
            "expression": "count(user_namespace{metric_name=user_metric}, 300) < 1 times 2",
            "alarm_actions": [],
        }
    }
    read, manage = Permission.READ, Permission.MANAGE
    beyond = "beyond the documents"
    return (
        Operation(
            "POST", "/alarms", "Create a new alarm", "v1.1 §4.4.6.1", create, manage, 201,
            (409, 413, 415, 422, 429), body=AlarmBody, example=example,
        ),
        Operation(
            "GET", "/alarms", "List all alarms", "v1.1 §4.4.6.2", find, read, parameters=_FILTERS
        ),
        Operation(
            "GET", "/alarms/history", "List what all alarms did", beyond, history, read,
            parameters=_PAGE,
        ),
        Operation(
            "POST", "/alarms/dry-run", "Try an expression on history", beyond, dry_run, read,
            200, (413, 415, 422), body=DryRunBody,
            example={
                "expression": "avg(user_namespace{metric_name=user_metric}, 300) > 90 times 2",
                "start_time": "2026-11-20T00:00Z",
            },
        ),
        Operation(
            "GET", "/alarms/{alarm_id}", "Get a specific alarm", "v1.1 §4.4.6.3", get, read,
            200, (404,),
        ),
        Operation(
            "PUT", "/alarms/{alarm_id}", "Replace an alarm's definition", beyond, put, manage, 200,
            (404, 409, 413, 415, 422), body=AlarmBody, example=example,
        ),
        Operation(
            "PATCH", "/alarms/{alarm_id}", "Change some of an alarm", beyond, patch, manage, 200,
            (404, 409, 413, 415, 422), body=AlarmBody, example={"alarm": {"enabled": False}},
        ),
        Operation(
            "DELETE", "/alarms/{alarm_id}", "Delete a specific alarm", "v1.1 §4.4.6.4", delete,
            manage, 204, (404,),
        ),
        Operation(
            "GET", "/alarms/{alarm_id}/history", "List what an alarm did", beyond, history, read,
            200, (404,), parameters=_PAGE,
        ),
        Operation(
            "GET", "/alarms/{alarm_id}/explanation", "Explain an alarm's state", beyond, explain,
            read, 200, (404, 409),
        ),
    )  # fmt: skip


def finding_document(finding: Finding) -> dict[str, Any]:
    """What the evaluation of a subexpression found."""
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
    """One change of state, and why."""
    return {
        "at": wire.iso(transition.at_ms),
        "old_state": _shown(transition.old),
        "new_state": _shown(transition.new),
        "flapping": transition.new is State.FLAPPING,
        "minute": wire.iso(transition.minute_ms),
        "at_once": transition.at_once,
        "reason": [finding_document(f) for f in transition.findings],
    }


def replay_document(replay: Replay, *, values: bool) -> dict[str, Any]:
    """What an alarm would have done."""
    alarm = replay.spans(State.ALARM) + replay.spans(State.FLAPPING)
    document: dict[str, Any] = {
        "start_time": wire.iso(replay.start_ms),
        "end_time": wire.iso(replay.end_ms),
        "transitions": [transition_document(t) for t in replay.transitions],
        "alarms": sum(t.new is State.ALARM for t in replay.transitions),
        "seconds_in_alarm": sum(end - start for start, end in alarm) / 1000,
        "spans": [{"start": wire.iso(start), "end": wire.iso(end)} for start, end in sorted(alarm)],
    }
    if values:
        document["minutes"] = [m // 1000 for m in replay.minutes_ms]
        document["values"] = [list(v) for v in replay.values]
    return document


def _definition(fields: AlarmFields) -> Definition:
    given: dict[str, Any] = {name: getattr(fields, name) for name in fields.__struct_fields__}
    for name, value in given.items():
        given[name] = tuple(value) if isinstance(value, list) else value
    return Definition(**given)


def _path(alarm_id: str) -> str:
    return f"/v1.1/alarms/{alarm_id}"


def _document(call: Call, alarm: Alarm) -> dict[str, Any]:
    return {
        "id": alarm.id,
        "links": wire.self_link(call, _path(alarm.id)),
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


def _shown(state: State) -> str:
    """v1.1 knows no FLAPPING: it is an alarm all the same."""
    return State.ALARM.value if state is State.FLAPPING else state.value


def _entry(entry: HistoryEntry) -> dict[str, Any]:
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


def _explained(alarm: Alarm, explanation: Explanation) -> dict[str, Any]:
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
                **finding_document(part.finding),
                "series": [dict(s.dimensions) for s in part.series[:100]],
                "last_measurement": {"at": wire.iso(part.last_ms), "value": part.last_value}
                if part.last_ms
                else None,
            }
            for part in explanation.parts
        ],
    }


def _words(call: Call, name: str) -> list[str]:
    text = wire.only(call.request.query_params, name)
    return [word.strip() for word in text.split(",")] if text else []


_STATES = ("UNDETERMINED", "OK", "ALARM")
_PAGE = (
    Parameter(
        "limit", "Entries in one answer.",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE},
    ),
    Parameter("marker", "Where the answer before ended; the link to the next holds it."),
)  # fmt: skip
_FILTERS = (
    Parameter("name", "Part of the name, in any case."),
    Parameter("state", f"Separated by commas: {', '.join(_STATES)}."),
    Parameter("severity", f"Separated by commas: {', '.join(SEVERITIES)}."),
    Parameter("enabled", "Only those that are enabled, or are not.",
              schema={"type": "string", "enum": ["true", "false"]}),
    Parameter("notification_method_id", "Only those that tell this notification method."),
    *_PAGE,
)  # fmt: skip
