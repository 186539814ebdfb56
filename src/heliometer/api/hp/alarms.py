"""Alarms of v1.1 (§4.4.6); beyond the document: change, history, explanation, dry run."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from heliometer.alarms.model import DEFAULT_SEVERITY, SEVERITIES, AlarmFilter, State
from heliometer.alarms.service import Alarms, Definition
from heliometer.api.hp import wire
from heliometer.api.hp.alarm_documents import (
    STATES,
    alarm_document,
    alarm_path,
    entry_document,
    explanation_document,
    replay_document,
)
from heliometer.core.errors import Malformed
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission

PAGE = 1000
HISTORY = 50
"""Entries of history in an answer unless another limit is given."""
TRANSITIONS = 1000
"""Transitions of a dry run that an answer spells out."""


class AlarmFields(msgspec.Struct, forbid_unknown_fields=True):
    """What the owner of an alarm decides. Beyond the document: description, severity, enabled,
    ok_actions, undetermined_actions."""

    name: str | UnsetType = UNSET
    expression: str | UnsetType = UNSET
    alarm_actions: list[str] | UnsetType = UNSET
    ok_actions: list[str] | UnsetType = UNSET
    undetermined_actions: list[str] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    severity: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


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
        alarm = await alarms.create(call.caller, Definition(**_given(wanted)))
        return wire.created(call, alarm_path(alarm.id), {"alarm": alarm_document(call, alarm)})

    async def find(call: Call) -> Response:
        query = call.request.query_params
        marker, limit = wire.page(call, PAGE)
        states = {wire.one_of("state", s, STATES) for s in _words(call, "state")}
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
        document: dict[str, Any] = {"alarms": [alarm_document(call, a) for a in found]}
        if limit is not None:
            last = found[-1].id if more else None
            document["links"] = wire.next_link(call, "/v1.1/alarms", last)
        return wire.json_response(document)

    async def get(call: Call) -> Response:
        alarm = await alarms.get(call.caller, call.path_params["alarm_id"])
        return wire.json_response({"alarm": alarm_document(call, alarm)})

    async def put(call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        for field in ("name", "expression"):
            if getattr(wanted, field) is UNSET:
                raise Malformed(f"alarm.{field}: is missing.")
        return await _update(call, replace(_BLANK, **_given(wanted)))

    async def patch(call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        return await _update(call, Definition(**_given(wanted)))

    async def _update(call: Call, wanted: Definition) -> Response:
        changed = await alarms.update(call.caller, call.path_params["alarm_id"], wanted)
        return wire.json_response({"alarm": alarm_document(call, changed)})

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
        path = f"{alarm_path(alarm_id)}/history" if alarm_id else "/v1.1/alarms/history"
        return wire.json_response(
            {
                "history": [entry_document(e) for e in found],
                "links": wire.next_link(call, path, str(found[-1].id) if more else None),
            }
        )

    async def explain(call: Call) -> Response:
        found = await alarms.explain(call.caller, call.path_params["alarm_id"])
        return wire.json_response({"explanation": explanation_document(*found)})

    async def dry_run(call: Call) -> Response:
        wanted = await wire.body(call, DryRunBody)
        start = wire.time_ms("start_time", wanted.start_time)
        end = wire.time_ms("end_time", wanted.end_time) if wanted.end_time else None
        replay = await alarms.dry_run(call.caller, wanted.expression, start, end)
        # It may be megabytes: others are answered meanwhile.
        return await asyncio.to_thread(
            lambda: wire.json_response(
                {"dry_run": replay_document(replay, values=wanted.values, most=TRANSITIONS)}
            )
        )

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
            "GET", "/alarms", "List all alarms", "v1.1 §4.4.6.2", wire.marked(find), read,
            parameters=_FILTERS,
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


def _given(fields: AlarmFields) -> dict[str, Any]:
    """The fields that a request names."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in msgspec.structs.asdict(fields).items()
        if value is not UNSET
    }


def _words(call: Call, name: str) -> list[str]:
    text = wire.only(call.request.query_params, name)
    return [word.strip() for word in text.split(",")] if text else []


_BLANK = Definition(
    description="", severity=DEFAULT_SEVERITY, enabled=True, alarm_actions=(), ok_actions=(),
    undetermined_actions=(),
)  # fmt: skip
"""What PUT does not name."""
_PAGE = (
    Parameter(
        "limit", "Entries in one answer.",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE},
    ),
    Parameter("marker", "Where the answer before ended; the link to the next holds it."),
)  # fmt: skip
_FILTERS = (
    Parameter("name", "Part of the name, in any case."),
    Parameter("state", f"Separated by commas: {', '.join(STATES)}."),
    Parameter("severity", f"Separated by commas: {', '.join(SEVERITIES)}."),
    Parameter("enabled", "Only those that are enabled, or are not.",
              schema={"type": "string", "enum": ["true", "false"]}),
    Parameter("notification_method_id", "Only those that tell this notification method."),
    *_PAGE,
)  # fmt: skip
