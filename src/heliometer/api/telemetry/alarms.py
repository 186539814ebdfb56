"""Alarms in Ceilometer's form: threshold and combination rules over the one engine.

A rule becomes an expression (v1.1 §2.5). What somebody defined here is shown as it was defined;
alarms of the other dialects show the rule of their first subexpression, and ``expression`` beside
it, which is ours, tells the whole.
"""

import json
import math
from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.alarms.expression import (
    Expression,
    Logical,
    Metric,
    Subexpression,
    parse,
    subexpressions,
)
from heliometer.alarms.expression.nodes import FUNCTIONS, Operator
from heliometer.alarms.model import Alarm, AlarmFilter, HistoryEntry, State
from heliometer.alarms.service import Alarms, Definition
from heliometer.api.telemetry import wire
from heliometer.api.telemetry.query import OPERATORS, conditions
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.json import convert, strict_loads
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Caller, Permission
from heliometer.meters.model import CUSTOM_NAMESPACE, INSTANCE, NAME, RESOURCE
from heliometer.meters.service import Meters
from heliometer.metrics.validation import check_dimension
from heliometer.notifications.model import WEBHOOK
from heliometer.notifications.service import Notifications, Wanted

STATES = {
    State.OK: "ok",
    State.ALARM: "alarm",
    State.FLAPPING: "alarm",
    State.UNDETERMINED: "insufficient data",
}
NAMED = {"ok": State.OK, "alarm": State.ALARM, "insufficient data": State.UNDETERMINED}
COMPARISONS: dict[str, Operator] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_WORDS = {operator: word for word, operator in COMPARISONS.items()}
SEVERITIES = {"low": "low", "moderate": "medium", "critical": "critical"}
_SHOWN = {"low": "low", "medium": "moderate", "high": "critical", "critical": "critical"}
ACTIONS = {
    "alarm_actions": "alarm_actions",
    "ok_actions": "ok_actions",
    "insufficient_data_actions": "undetermined_actions",
}
"""What they are called here, and in the model."""
HISTORY = 1000
METADATA = ("resource_metadata.", "metadata.")


class QueryFields(msgspec.Struct):
    """A condition of a threshold rule."""

    field: str
    value: str
    op: str | None = None
    type: str | None = None


class ThresholdRule(msgspec.Struct):
    """When a meter's statistic is too high or too low."""

    meter_name: str
    threshold: float
    comparison_operator: str = "eq"
    statistic: str = "avg"
    period: int = 60
    evaluation_periods: int = 1
    query: list[QueryFields] = []
    exclude_outliers: bool = False


class CombinationRule(msgspec.Struct):
    """When other alarms are in alarm."""

    alarm_ids: list[str]
    operator: str = "and"


class AlarmFields(msgspec.Struct):
    """An alarm; fields that are not here are left aside, as clients send back what they got."""

    name: str
    type: str | None = None
    description: str | None = None
    enabled: bool = True
    severity: str = "low"
    state: str | None = None
    repeat_actions: bool = False
    time_constraints: list[Any] = []
    alarm_actions: list[str] = []
    ok_actions: list[str] = []
    insufficient_data_actions: list[str] = []
    threshold_rule: ThresholdRule | None = None
    combination_rule: CombinationRule | None = None
    project_id: str | None = None


def operations(
    alarms: Alarms, notifications: Notifications, meters: Meters
) -> tuple[Operation, ...]:
    """Create, list, get, update, delete; the state and the history."""

    async def create(call: Call) -> Response:
        fields = convert(strict_loads(await call.body()), AlarmFields)
        wanted = await define(call, fields)
        alarm = await alarms.create(call.caller, wanted)
        if fields.state is not None and _state(fields.state) is not alarm.state:
            alarm = await alarms.set_state(call.caller, alarm.id, _state(fields.state))
        return wire.reply(await show(call, alarm), 201)

    async def find(call: Call) -> Response:
        wanted = [(c.field, c.op, c.value) for c in conditions(call.request.query_params)]
        found = await alarms.find(call.caller, AlarmFilter())
        urls = await addresses(call.caller)
        documents = [render(call.caller, alarm, urls) for alarm in found]
        for field, op, value in wanted:
            if op != "eq":
                raise Malformed(f"Unimplemented operator '{op}' for specified field.")
            if field in ("project_id", "project"):
                wire.check_project(call.caller, value)
                continue
            documents = [d for d in documents if _matches(d, field, value)]
        return wire.reply(documents)

    async def get(call: Call) -> Response:
        return wire.reply(await show(call, await known(call)))

    async def put(call: Call) -> Response:
        # Some clients send the whole alarm, others only what is to change.
        given = strict_loads(await call.body())
        if not isinstance(given, dict):
            raise Malformed("body: expected object.")
        before = await show(call, await known(call))
        if "threshold_rule" in given and isinstance(given["threshold_rule"], dict):
            given["threshold_rule"] = before["threshold_rule"] | given["threshold_rule"]
        fields = convert(before | given, AlarmFields)
        alarm = await known(call)
        wanted = await define(call, fields, alarm)
        alarm = await alarms.update(call.caller, alarm.id, wanted)
        if fields.state is not None and STATES[alarm.state] != fields.state:
            alarm = await alarms.set_state(call.caller, alarm.id, _state(fields.state))
        return wire.reply(await show(call, alarm))

    async def delete(call: Call) -> Response:
        await alarms.delete(call.caller, (await known(call)).id)
        return Response(status_code=204)

    async def get_state(call: Call) -> Response:
        return wire.reply(STATES[(await known(call)).state])

    async def set_state(call: Call) -> Response:
        state = _state(convert(strict_loads(await call.body()), str))
        alarm = await alarms.set_state(call.caller, (await known(call)).id, state)
        return wire.reply(STATES[alarm.state])

    async def history(call: Call) -> Response:
        alarm = await known(call)
        conditions(call.request.query_params)
        limit = wire.number(call, "limit", 100, HISTORY)
        found = await alarms.history(call.caller, alarm.id, None, limit)
        document = await show(call, alarm)
        changes = [_change(call.caller, entry) for entry in found]
        if len(found) < limit:
            created = {"name": alarm.name, "type": document["type"]}
            changes.append(
                _event(
                    call.caller, alarm.id, f"{alarm.id}-0", "creation", created, alarm.created_ms
                )
            )
        return wire.reply(changes)

    async def known(call: Call) -> Alarm:
        alarm_id = call.path_params["alarm_id"]
        try:
            return await alarms.get(call.caller, alarm_id)
        except HeliometerError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            raise HeliometerError(
                Code.NOT_FOUND,
                f"Alarm {alarm_id[:80]} Not Found in project {call.caller.project_id}",
            ) from error

    async def show(call: Call, alarm: Alarm) -> dict[str, Any]:
        return render(call.caller, alarm, await addresses(call.caller))

    async def addresses(caller: Caller) -> dict[str, str]:
        """Of the methods that stand for a URL, which clients here know."""
        methods = await notifications.list_methods(caller)
        return {m.id: m.address for m in methods if m.type == WEBHOOK and m.name == m.address}

    async def define(call: Call, fields: AlarmFields, old: Alarm | None = None) -> Definition:
        if fields.project_id:
            wire.check_project(call.caller, fields.project_id)
        if fields.time_constraints:
            raise Malformed("time_constraints are not supported: leave them out.")
        severity = SEVERITIES.get(fields.severity)
        if severity is None:
            raise Malformed(
                f"Invalid severity {fields.severity[:40]!r}: one of {', '.join(SEVERITIES)}."
            )
        if fields.state is not None:
            _state(fields.state)
        kind = fields.type or ("combination" if fields.combination_rule else "threshold")
        rule: dict[str, Any] = {"type": kind, "repeat_actions": fields.repeat_actions}
        if kind == "combination" and fields.combination_rule is not None:
            tree: Expression = await combined(call.caller, fields.combination_rule)
            rule["combination_rule"] = msgspec.to_builtins(fields.combination_rule)
        elif kind == "threshold" and fields.threshold_rule is not None:
            tree = await compared(call.caller, fields.threshold_rule)
            rule["threshold_rule"] = msgspec.to_builtins(fields.threshold_rule)
        elif kind in ("combination", "threshold"):
            raise Malformed(f"{kind}_rule must be set for {kind} type alarm")
        else:
            raise Malformed(f"Invalid alarm type {kind[:40]!r}: must be threshold or combination.")
        expression, kept = str(tree), json.dumps(rule)
        if old is not None and not old.rule and old.expression != expression:
            before = render(call.caller, old, {})
            if before["threshold_rule"] == rule.get("threshold_rule"):
                # It was defined elsewhere, says more than a rule can, and was not changed here.
                expression, kept = old.expression, ""
        return Definition(
            name=fields.name,
            expression=expression,
            description=fields.description or "",
            severity=severity,
            enabled=fields.enabled,
            rule=kept,
            **{
                ours: tuple([await method(call.caller, each) for each in getattr(fields, theirs)])
                for theirs, ours in ACTIONS.items()
            },
        )

    async def method(caller: Caller, action: str) -> str:
        """The notification method of an action: its id, or one for its URL."""
        if not action.lower().startswith(("http://", "https://")):
            return action
        for each in await notifications.list_methods(caller):
            if each.type == WEBHOOK and each.address == action:
                return each.id
        return (await notifications.create_method(caller, Wanted(action, WEBHOOK, action))).id

    async def combined(caller: Caller, rule: CombinationRule) -> Expression:
        if rule.operator not in ("and", "or"):
            raise Malformed(f"Invalid operator {rule.operator[:20]!r}: must be and or or.")
        if len(set(rule.alarm_ids)) < 2:
            raise Malformed(
                "Alarm combination rule should contain at least two different alarm ids."
            )
        parts: list[Expression] = []
        for alarm_id in dict.fromkeys(rule.alarm_ids):
            try:
                parts.append(parse((await alarms.get(caller, alarm_id)).expression))
            except HeliometerError as error:
                raise Malformed(f"Alarm {alarm_id[:80]} Not Found") from error
        return Logical("and" if rule.operator == "and" else "or", tuple(parts))

    async def compared(caller: Caller, rule: ThresholdRule) -> Expression:
        if rule.statistic not in FUNCTIONS:
            raise Malformed(
                f"Invalid statistic {rule.statistic[:40]!r}: must be one of {', '.join(FUNCTIONS)}."
            )
        if rule.comparison_operator not in COMPARISONS:
            supported = rule.comparison_operator in OPERATORS
            raise Malformed(
                f"Invalid comparison_operator {rule.comparison_operator[:40]!r}: "
                f"{'is not supported; ' if supported else ''}must be one of "
                f"{', '.join(COMPARISONS)}."
            )
        if rule.period < 60 or rule.period % 60:
            raise Malformed(f"Invalid period {rule.period}: must be a multiple of 60 seconds.")
        if rule.evaluation_periods < 1 or not math.isfinite(rule.threshold):
            raise Malformed("evaluation_periods must be 1 or more, and threshold a number.")
        metrics = await watched(caller, rule)
        parts: list[Expression] = [
            Subexpression(
                metric, COMPARISONS[rule.comparison_operator], rule.threshold,
                FUNCTIONS[rule.statistic], rule.period, rule.evaluation_periods,
            )
            for metric in metrics
        ]  # fmt: skip
        # The parser judges it as it judges everybody's.
        return parse(str(parts[0] if len(parts) == 1 else Logical("or", tuple(parts))))

    async def watched(caller: Caller, rule: ThresholdRule) -> list[Metric]:
        """The metrics of a rule: one for each namespace that has the meter."""
        namespace, resource, own = None, None, {}
        for condition in rule.query:
            field, value = condition.field, condition.value
            if condition.op not in (None, "", "eq"):
                raise Malformed(f"Unimplemented operator '{condition.op}' for specified field.")
            if field in ("project_id", "project"):
                wire.check_project(caller, value)
            elif field in ("resource_id", "resource"):
                resource = value
            elif field == "namespace":
                namespace = value
            elif field.startswith(METADATA):
                own[field.partition(".")[2]] = value
            else:
                raise Malformed(
                    f"Unrecognized field in query: {field[:40]}. valid keys: ['resource_id', "
                    "'project_id', 'namespace', 'metadata.KEY']"
                )
        fields = {"name": rule.meter_name} | ({"namespace": namespace} if namespace else {})
        series = [m.series for m in meters.meters(await meters.select(caller, fields))]
        spaces = dict.fromkeys(s.namespace for s in series) or {namespace or CUSTOM_NAMESPACE: None}
        found = []
        for space in spaces:
            here = [s for s in series if s.namespace == space]
            keys = {key for s in here for key, _ in s.dimensions}
            pairs = dict(own)
            if NAME in keys or not here:
                pairs[NAME] = rule.meter_name
            if resource is not None:
                pairs[INSTANCE if INSTANCE in keys and RESOURCE not in keys else RESOURCE] = (
                    resource
                )
            for key, value in pairs.items():
                check_dimension(key, value, "threshold_rule.query")
            found.append(Metric(space, tuple(sorted(pairs.items()))))
        return found

    read, manage, source = Permission.READ, Permission.MANAGE, "Ceilometer v2"
    return (
        Operation(
            "POST", "/alarms", "Create an alarm", source, create, manage, 201,
            (409, 413, 429), body=AlarmFields, example=EXAMPLE,
        ),
        Operation("GET", "/alarms", "List alarms", source, find, read, parameters=_Q),
        Operation("GET", "/alarms/{alarm_id}", "Get an alarm", source, get, read, faults=(404,)),
        Operation(
            "PUT", "/alarms/{alarm_id}", "Update an alarm", source, put, manage, 200,
            (404, 409, 413), body=AlarmFields,
        ),
        Operation(
            "DELETE", "/alarms/{alarm_id}", "Delete an alarm", source, delete, manage, 204, (404,)
        ),
        Operation(
            "GET", "/alarms/{alarm_id}/state", "Get an alarm's state", source, get_state, read,
            faults=(404,),
        ),
        Operation(
            "PUT", "/alarms/{alarm_id}/state", "Set an alarm's state", source, set_state, manage,
            200, (404, 409, 413), body=str,
        ),
        Operation(
            "GET", "/alarms/{alarm_id}/history", "Tell what an alarm did", source, history, read,
            faults=(404,),
        ),
    )  # fmt: skip


def render(caller: Caller, alarm: Alarm, urls: dict[str, str]) -> dict[str, Any]:
    """An alarm in Ceilometer's form."""
    rule = json.loads(alarm.rule) if alarm.rule else {}
    first = subexpressions(parse(alarm.expression))[0]
    document = {
        "alarm_id": alarm.id,
        "name": alarm.name,
        "description": alarm.description,
        "enabled": alarm.enabled,
        "severity": _SHOWN[alarm.severity],
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


def threshold_rule(part: Subexpression) -> dict[str, Any]:
    """A subexpression as a rule, with every field that clients look for."""
    dimensions = dict(part.metric.dimensions)
    name = dimensions.pop(NAME, part.metric.namespace)
    query = [{"field": "namespace", "op": "eq", "value": part.metric.namespace, "type": "string"}]
    for key, value in dimensions.items():
        field = "resource_id" if key in (RESOURCE, INSTANCE) else f"metadata.{key}"
        query.append({"field": field, "op": "eq", "value": value, "type": "string"})
    return {
        "meter_name": name,
        "threshold": part.threshold,
        "comparison_operator": _WORDS[part.operator],
        "statistic": part.effective_function,
        "period": part.period_s,
        "evaluation_periods": part.times,
        "query": query,
        "exclude_outliers": False,
    }


def _state(text: str) -> State:
    if text not in NAMED:
        raise Malformed(f"Invalid state {text[:40]!r}: must be one of {', '.join(NAMED)}.")
    return NAMED[text]


def _matches(document: dict[str, Any], field: str, value: str) -> bool:
    if field in ("meter", "meter_name"):
        return bool(document["threshold_rule"]["meter_name"] == value)
    if field == "enabled":
        return bool(document["enabled"]) == (value.lower() in ("1", "true", "t", "yes"))
    if field not in ("name", "state", "type", "alarm_id", "severity", "user_id"):
        raise Malformed(f"Unrecognized field in query: {field[:40]}.")
    return bool(document[field] == value)


def _change(caller: Caller, entry: HistoryEntry) -> dict[str, Any]:
    transition = entry.transition
    detail = {"state": STATES[transition.new]}
    return _event(
        caller, transition.alarm_id, str(entry.id), "state transition", detail, transition.at_ms
    )


def _event(
    caller: Caller, alarm_id: str, event_id: str, type_: str, detail: Any, at_ms: int
) -> dict[str, Any]:
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


EXAMPLE = {
    "name": "cpu is high",
    "type": "threshold",
    "threshold_rule": {
        "meter_name": "cpu_total_utilization",
        "comparison_operator": "gt",
        "threshold": 90.0,
        "statistic": "avg",
        "period": 300,
        "evaluation_periods": 2,
        "query": [{"field": "resource_id", "value": "42ff6820-7c86-11e2-b92a-0800200c9a67"}],
    },
}
_Q = (
    Parameter("q.field", "name, state, type, enabled, severity, alarm_id or meter."),
    Parameter("q.value", "What it must be."),
)
