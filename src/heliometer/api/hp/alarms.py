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
    dry_run_document,
    entry_document,
    explanation_document,
)
from heliometer.core.errors import Malformed
from heliometer.http import paging
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission

PAGE = 1000
HISTORY = 50
"""Entries of history in an answer without a limit."""
TRANSITIONS = 1000
"""Most transitions of a dry run in an answer."""


class AlarmFields(msgspec.Struct, forbid_unknown_fields=True):
    """The fields that a client sets. Beyond the document: description, severity, enabled,
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
    """A request to try an expression on the stored measurements."""

    expression: str
    start_time: str
    end_time: str | None = None
    values: bool = False


class AlarmOperations:
    """Alarms in the form of v1.1."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms

    def operations(self) -> tuple[Operation, ...]:
        """The operations of v1.1."""
        read, manage = Permission.READ, Permission.MANAGE
        beyond = "beyond the documents"
        one = "/alarms/{alarm_id}"
        return (
            Operation(
                "POST", "/alarms", "Create a new alarm", "v1.1 §4.4.6.1", self.create, manage, 201,
                (409, 413, 415, 422, 429), body=AlarmBody, example=_EXAMPLE,
            ),
            Operation(
                "GET", "/alarms", "List all alarms", "v1.1 §4.4.6.2", wire.marked(self.find), read,
                parameters=_FILTERS,
            ),
            Operation(
                "GET", "/alarms/history", "List what all alarms did", beyond, self.history, read,
                parameters=_PAGE,
            ),
            Operation(
                "POST", "/alarms/dry-run", "Try an expression on history", beyond, self.dry_run,
                read, 200, (413, 415, 422), body=DryRunBody, example=_DRY_RUN_EXAMPLE,
            ),
            Operation(
                "GET", one, "Get a specific alarm", "v1.1 §4.4.6.3", self.get, read, 200, (404,),
            ),
            Operation(
                "PUT", one, "Replace an alarm's definition", beyond, self.replace, manage, 200,
                (404, 409, 413, 415, 422), body=AlarmBody, example=_EXAMPLE,
            ),
            Operation(
                "PATCH", one, "Change some of an alarm", beyond, self.patch, manage, 200,
                (404, 409, 413, 415, 422), body=AlarmBody, example={"alarm": {"enabled": False}},
            ),
            Operation(
                "DELETE", one, "Delete a specific alarm", "v1.1 §4.4.6.4", self.delete, manage, 204,
                (404,),
            ),
            Operation(
                "GET", f"{one}/history", "List what an alarm did", beyond, self.history, read, 200,
                (404,), parameters=_PAGE,
            ),
            Operation(
                "GET", f"{one}/explanation", "Explain an alarm's state", beyond, self.explain, read,
                200, (404, 409),
            ),
        )  # fmt: skip

    async def create(self, call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        alarm = await self._alarms.create(call.caller, Definition(**_given(wanted)))
        return wire.created(call, alarm_path(alarm.id), {"alarm": alarm_document(call, alarm)})

    async def find(self, call: Call) -> Response:
        marker, limit = wire.page(call, PAGE)
        asked = limit + 1 if limit else 1 << 31
        found = await self._alarms.find(call.caller, _filter(call), marker, asked)
        shown, last = paging.cut(found, limit)
        links = wire.next_link(call, "/v1.1/alarms", last.id if last else None)
        more = {} if limit is None else {"links": links}
        return wire.list_response(
            "alarms", shown, lambda a: alarm_document(call, a), more, len(shown)
        )

    async def get(self, call: Call) -> Response:
        alarm = await self._alarms.get(call.caller, call.path_params["alarm_id"])
        return wire.json_response({"alarm": alarm_document(call, alarm)})

    async def replace(self, call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        for field in ("name", "expression"):
            if getattr(wanted, field) is UNSET:
                raise Malformed(f"alarm.{field}: is missing.")
        return await self._update(call, replace(_DEFAULTS, **_given(wanted)))

    async def patch(self, call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        return await self._update(call, Definition(**_given(wanted)))

    async def _update(self, call: Call, wanted: Definition) -> Response:
        changed = await self._alarms.update(call.caller, call.path_params["alarm_id"], wanted)
        return wire.json_response({"alarm": alarm_document(call, changed)})

    async def delete(self, call: Call) -> Response:
        await self._alarms.delete(call.caller, call.path_params["alarm_id"])
        return Response(status_code=204)

    async def history(self, call: Call) -> Response:
        alarm_id = call.path_params.get("alarm_id")
        marker, given = wire.page(call, PAGE)
        limit = given or HISTORY
        before = wire.whole_number("marker", marker, 1, 10**11) if marker else None
        found = await self._alarms.history(call.caller, alarm_id, before, limit + 1)
        shown, last = paging.cut(found, limit)
        path = f"{alarm_path(alarm_id)}/history" if alarm_id else "/v1.1/alarms/history"
        return wire.json_response(
            {
                "history": [entry_document(e) for e in shown],
                "links": wire.next_link(call, path, str(last.id) if last else None),
            }
        )

    async def explain(self, call: Call) -> Response:
        found = await self._alarms.explain(call.caller, call.path_params["alarm_id"])
        return wire.json_response({"explanation": explanation_document(*found)})

    async def dry_run(self, call: Call) -> Response:
        wanted = await wire.body(call, DryRunBody)
        start = wire.time_ms("start_time", wanted.start_time)
        end = wire.time_ms("end_time", wanted.end_time) if wanted.end_time else None
        found = await self._alarms.dry_run(call.caller, wanted.expression, start, end)
        # Rendering megabytes in a thread keeps the event loop free for others.
        return await asyncio.to_thread(
            lambda: wire.json_response(
                {"dry_run": dry_run_document(found, values=wanted.values, most=TRANSITIONS)}
            )
        )


def _filter(call: Call) -> AlarmFilter:
    query = call.request.query_params
    states = {wire.one_of("state", s, STATES) for s in _words(call, "state")}
    enabled = wire.only(query, "enabled")
    return AlarmFilter(
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


_DEFAULTS = Definition(
    description="", severity=DEFAULT_SEVERITY, enabled=True, alarm_actions=(), ok_actions=(),
    undetermined_actions=(),
)  # fmt: skip
"""The fields that a PUT leaves out."""
_EXAMPLE = {
    "alarm": {
        "name": "Orders stay away",
        "expression": "count(user_namespace{metric_name=user_metric}, 300) < 1 times 2",
        "alarm_actions": [],
    }
}
_DRY_RUN_EXAMPLE = {
    "expression": "avg(user_namespace{metric_name=user_metric}, 300) > 90 times 2",
    "start_time": "2026-11-20T00:00Z",
}
_PAGE = (
    Parameter(
        "limit", "Entries in one answer.",
        schema={"type": "integer", "minimum": 1, "maximum": PAGE},
    ),
    wire.MARKER,
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
