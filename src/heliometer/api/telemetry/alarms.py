"""Alarms in Ceilometer's form: threshold and combination rules over the one engine.

A rule becomes an expression. An alarm that was created here is shown with its own rule; one of
another dialect with the rule of its first subexpression, and with the additional field
``expression``, which is ours and complete.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.alarms.expression import Expression
from heliometer.alarms.model import Alarm, AlarmFilter
from heliometer.alarms.service import Alarms, Definition
from heliometer.api.telemetry import wire
from heliometer.api.telemetry.alarm_documents import (
    ACTIONS,
    SEVERITIES,
    STATES,
    alarm_document,
    check_field,
    event_document,
    matches,
    state_of,
    transition_document,
)
from heliometer.api.telemetry.alarm_rules import CombinationRule, Rules, ThresholdRule
from heliometer.api.telemetry.query import conditions
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.answers import json_list
from heliometer.http.documents import read_document, read_typed
from heliometer.http.json import convert
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Caller, Permission
from heliometer.meters.service import Meters
from heliometer.notifications.channels import shown_address
from heliometer.notifications.model import WEBHOOK
from heliometer.notifications.service import Notifications, Wanted

HISTORY = 1000
"""The most entries of history in a reply."""


class AlarmFields(msgspec.Struct):
    """An alarm. Other fields are ignored: clients send back everything they received."""

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


class AlarmOperations:
    """Handles requests for alarms, their states and their history."""

    def __init__(self, alarms: Alarms, notifications: Notifications, meters: Meters) -> None:
        self._alarms = alarms
        self._notifications = notifications
        self._rules = Rules(alarms, meters)

    def operations(self) -> tuple[Operation, ...]:
        """Operations on alarms, their states and their history."""
        read, manage, source = Permission.READ, Permission.MANAGE, "Ceilometer v2"
        one = "/alarms/{alarm_id}"
        return (
            Operation(
                "POST", "/alarms", "Create an alarm", source, self.create, manage, 201,
                (409, 413, 429), body=AlarmFields, example=EXAMPLE,
            ),
            Operation("GET", "/alarms", "List alarms", source, self.find, read, parameters=_Q),
            Operation("GET", one, "Get an alarm", source, self.get, read, faults=(404,)),
            Operation(
                "PUT", one, "Update an alarm", source, self.update, manage, 200, (404, 409, 413),
                body=AlarmFields,
            ),
            Operation("DELETE", one, "Delete an alarm", source, self.delete, manage, 204, (404,)),
            Operation(
                "GET", f"{one}/state", "Get an alarm's state", source, self.get_state, read,
                faults=(404,),
            ),
            Operation(
                "PUT", f"{one}/state", "Set an alarm's state", source, self.set_state, manage, 200,
                (404, 409, 413), body=str,
            ),
            Operation(
                "GET", f"{one}/history", "Tell what an alarm did", source, self.history, read,
                faults=(404,),
            ),
        )  # fmt: skip

    async def create(self, call: Call) -> Response:
        fields = await read_typed(call, AlarmFields)
        alarm = await self._alarms.create(call.caller, await self._definition(call, fields))
        if fields.state is not None and state_of(fields.state) is not alarm.state:
            alarm = await self._alarms.set_state(call.caller, alarm.id, state_of(fields.state))
        return wire.reply(await self._document(call, alarm), 201)

    async def find(self, call: Call) -> Response:
        wanted = [(c.field, c.op, c.value) for c in conditions(call.request.query_params)]
        found = await self._alarms.find(call.caller, AlarmFilter())
        urls = await self._urls(call.caller)
        for field, op, value in list(wanted):
            if op != "eq":
                raise Malformed(f"Unimplemented operator '{op}' for specified field.")
            if field in ("project_id", "project"):
                wire.check_project(call.caller, value)
                wanted.remove((field, op, value))
                continue
            check_field(field)

        def documents() -> Iterator[dict[str, Any]]:
            for alarm in found:
                document = alarm_document(call.caller, alarm, urls)
                if all(matches(document, field, value) for field, _, value in wanted):
                    yield document

        return json_list(documents(), lambda d: d, len(found) * wire.ROW_BYTES, wire.CONTENT_TYPE)

    async def get(self, call: Call) -> Response:
        return wire.reply(await self._document(call, await self._alarm(call)))

    async def update(self, call: Call) -> Response:
        # Some clients send the whole alarm, others only the fields that change.
        given = await read_document(call)
        if not isinstance(given, dict):
            raise Malformed("body: expected object.")
        alarm = await self._alarm(call)
        before = await self._document(call, alarm)
        if "threshold_rule" in given and isinstance(given["threshold_rule"], dict):
            given["threshold_rule"] = before["threshold_rule"] | given["threshold_rule"]
        fields = convert(before | given, AlarmFields)
        wanted = await self._definition(call, fields, alarm)
        alarm = await self._alarms.update(call.caller, alarm.id, wanted)
        if fields.state is not None and STATES[alarm.state] != fields.state:
            alarm = await self._alarms.set_state(call.caller, alarm.id, state_of(fields.state))
        return wire.reply(await self._document(call, alarm))

    async def delete(self, call: Call) -> Response:
        await self._alarms.delete(call.caller, (await self._alarm(call)).id)
        return Response(status_code=204)

    async def get_state(self, call: Call) -> Response:
        return wire.reply(STATES[(await self._alarm(call)).state])

    async def set_state(self, call: Call) -> Response:
        state = state_of(await read_typed(call, str))
        alarm = await self._alarms.set_state(call.caller, (await self._alarm(call)).id, state)
        return wire.reply(STATES[alarm.state])

    async def history(self, call: Call) -> Response:
        alarm = await self._alarm(call)
        conditions(call.request.query_params)
        limit = wire.number(call, "limit", 100, HISTORY)
        found = await self._alarms.history(call.caller, alarm.id, None, limit)
        document = await self._document(call, alarm)
        changes = [transition_document(call.caller, entry) for entry in found]
        if len(found) < limit:
            created = {"name": alarm.name, "type": document["type"]}
            changes.append(
                event_document(
                    call.caller, alarm.id, f"{alarm.id}-0", "creation", created, alarm.created_ms
                )
            )
        return wire.reply(changes)

    async def _alarm(self, call: Call) -> Alarm:
        """The alarm of the path. Raises NOT_FOUND in Ceilometer's words."""
        alarm_id = call.path_params["alarm_id"]
        try:
            return await self._alarms.get(call.caller, alarm_id)
        except HeliometerError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            raise HeliometerError(
                Code.NOT_FOUND,
                f"Alarm {alarm_id[:80]} Not Found in project {call.caller.project_id}",
            ) from error

    async def _document(self, call: Call, alarm: Alarm) -> dict[str, Any]:
        return alarm_document(call.caller, alarm, await self._urls(call.caller))

    async def _urls(self, caller: Caller) -> dict[str, str]:
        """URLs by the ids of the methods that were created for them."""
        methods = await self._notifications.list_methods(caller)
        return {
            m.id: m.address
            for m in methods
            if m.type == WEBHOOK and m.name == shown_address(m.type, m.address)
        }

    async def _definition(
        self, call: Call, fields: AlarmFields, old: Alarm | None = None
    ) -> Definition:
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
            state_of(fields.state)
        tree, rule = await self._rule(call.caller, fields)
        expression, kept = str(tree), json.dumps(rule)
        if old is not None and not old.rule and old.expression != expression:
            before = alarm_document(call.caller, old, {})
            if before["threshold_rule"] == rule.get("threshold_rule"):
                # Another dialect's expression, which the rule only approximates, is unchanged.
                expression, kept = old.expression, ""
        actions = {
            ours: tuple([await self._method(call.caller, each) for each in getattr(fields, theirs)])
            for theirs, ours in ACTIONS.items()
        }
        return Definition(
            name=fields.name,
            expression=expression,
            description=fields.description or "",
            severity=severity,
            enabled=fields.enabled,
            rule=kept,
            **actions,
        )

    async def _rule(self, caller: Caller, fields: AlarmFields) -> tuple[Expression, dict[str, Any]]:
        """The expression of an alarm, and the rule to show again. Raises MALFORMED."""
        kind = fields.type or ("combination" if fields.combination_rule else "threshold")
        rule: dict[str, Any] = {"type": kind, "repeat_actions": fields.repeat_actions}
        if kind == "combination" and fields.combination_rule is not None:
            tree = await self._rules.combination(caller, fields.combination_rule)
            return tree, {**rule, "combination_rule": msgspec.to_builtins(fields.combination_rule)}
        if kind == "threshold" and fields.threshold_rule is not None:
            tree = await self._rules.threshold(caller, fields.threshold_rule)
            return tree, {**rule, "threshold_rule": msgspec.to_builtins(fields.threshold_rule)}
        if kind in ("combination", "threshold"):
            raise Malformed(f"{kind}_rule must be set for {kind} type alarm")
        raise Malformed(f"Invalid alarm type {kind[:40]!r}: must be threshold or combination.")

    async def _method(self, caller: Caller, action: str) -> str:
        """The id of an action's notification method; a URL gets one of its own."""
        if not action.lower().startswith(("http://", "https://")):
            return action
        for each in await self._notifications.list_methods(caller):
            if each.type == WEBHOOK and each.address == action:
                return each.id
        # URLs hold secrets, and everybody in the project sees names.
        name = shown_address(WEBHOOK, action)
        created = await self._notifications.create_method(caller, Wanted(name, WEBHOOK, action))
        return created.id


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
