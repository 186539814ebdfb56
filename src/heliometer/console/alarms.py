"""The pages of alarms: the list, one alarm with its explanation, and the editor."""

import re
from collections.abc import Sequence
from dataclasses import replace
from shlex import quote
from typing import Any
from urllib.parse import quote as quote_path

from starlette.responses import Response

from heliometer.alarms.expression.nodes import Subexpression, subexpressions
from heliometer.alarms.expression.parser import parse
from heliometer.alarms.model import DEFAULT_SEVERITY, SEVERITIES, Alarm, AlarmFilter, State
from heliometer.alarms.service import Alarms, Definition
from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.paging import cut
from heliometer.identity.model import Permission
from heliometer.metrics.service import Metrics
from heliometer.notifications.service import Notifications

_NUMBER = re.compile(r"[0-9]{1,15}")
PAGE = 100
HISTORY = 30
SPANS = {"3h": 3, "24h": 24, "7d": 168, "14d": 336}
"""Hours that a preview looks back."""
DRAWN = 1500
"""Approximate number of points per line in the chart of a preview."""
LISTS = ("alarm_actions", "ok_actions", "undetermined_actions")


def section(
    alarms: Alarms, notifications: Notifications, metrics: Metrics
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages, and what their scripts ask for."""
    pages = AlarmPages(alarms, notifications, metrics)
    read, manage = Permission.READ, Permission.MANAGE
    return (
        ("GET", "/alarms", "Alarms", pages.listing, read),
        ("GET", "/alarms/new", "A new alarm", pages.new, manage),
        ("POST", "/alarms/new", "Create an alarm", pages.create, manage),
        ("GET", "/alarms/check", "Whether an expression can be read", pages.check, read),
        ("GET", "/alarms/try", "Try an expression on history", pages.preview, read),
        ("GET", "/alarms/{alarm_id}", "An alarm", pages.show, read),
        ("GET", "/alarms/{alarm_id}/edit", "Edit an alarm", pages.edit, manage),
        ("POST", "/alarms/{alarm_id}/edit", "Change an alarm", pages.change, manage),
        ("POST", "/alarms/{alarm_id}/enable", "Watch an alarm, or do not", pages.enable, manage),
        ("POST", "/alarms/{alarm_id}/delete", "Delete an alarm", pages.delete, manage),
    )


class AlarmPages:
    """The list, one alarm and why it is in its state, and the editor with its dry run."""

    def __init__(self, alarms: Alarms, notifications: Notifications, metrics: Metrics) -> None:
        self._alarms = alarms
        self._notifications = notifications
        self._metrics = metrics

    async def listing(self, request: PageRequest) -> Response:
        wanted = request.query.get("state", "")
        states = frozenset[State]()
        if wanted in State.__members__:
            states = frozenset({State(wanted)})
            if wanted == "ALARM":
                states |= {State.FLAPPING}
        name = request.query.get("q", "").strip()
        filters = AlarmFilter(name=name or None, states=states)
        caller = request.session.caller
        found = await self._alarms.find(caller, filters, request.query.get("after"), PAGE + 1)
        shown, last = cut(found, PAGE)
        return request.page(
            "alarms.html",
            section="alarms",
            alarms=shown,
            more=last.id if last else "",
            state=wanted,
            q=name,
            states=("ALARM", "UNDETERMINED", "OK"),
        )

    async def show(self, request: PageRequest) -> Response:
        caller = request.session.caller
        alarm = await self._alarms.get(caller, request.path("alarm_id"))
        explanation = None
        if alarm.enabled:
            try:
                _, explanation, _ = await self._alarms.explain(caller, alarm.id)
            except HeliometerError as error:
                if error.code is not Code.CONFLICT:
                    raise
        before = request.query.get("before", "")
        history = await self._alarms.history(
            caller, alarm.id, int(before) if _NUMBER.fullmatch(before) else None, HISTORY + 1
        )
        shown, last = cut(history, HISTORY)
        methods = {m.id: m for m in await self._notifications.list_methods(caller)}
        return request.page(
            "alarm.html",
            section="alarms",
            alarm=alarm,
            explanation=explanation,
            history=shown,
            more=last.id if last else "",
            methods=methods,
            lists=tuple((name, getattr(alarm, name)) for name in LISTS),
        )

    async def new(self, request: PageRequest) -> Response:
        request.form = {"expression": request.query.get("expression", ""), "name": ""}
        return request.page("alarm_edit.html", **await self._context(request, None))

    async def create(self, request: PageRequest) -> Response:
        try:
            alarm = await self._alarms.create(request.session.caller, _definition(request))
        except HeliometerError as error:
            return request.wrong("alarm_edit.html", error, **await self._context(request, None))
        return request.go(f"/console/alarms/{alarm.id}", f"Alarm created: {alarm.name}")

    async def edit(self, request: PageRequest) -> Response:
        alarm = await self._alarms.get(request.session.caller, request.path("alarm_id"))
        request.form = {
            "name": alarm.name, "expression": alarm.expression, "description": alarm.description,
            "severity": alarm.severity,
        }  # fmt: skip
        request.many = {name: list(getattr(alarm, name)) for name in LISTS}
        return request.page("alarm_edit.html", **await self._context(request, alarm))

    async def change(self, request: PageRequest) -> Response:
        caller = request.session.caller
        alarm = await self._alarms.get(caller, request.path("alarm_id"))
        try:
            await self._alarms.update(caller, alarm.id, _definition(request))
        except HeliometerError as error:
            return request.wrong("alarm_edit.html", error, **await self._context(request, alarm))
        return request.go(f"/console/alarms/{alarm.id}", "Saved.")

    async def enable(self, request: PageRequest) -> Response:
        wanted = request.form.get("enabled") == "1"
        alarm = await self._alarms.update(
            request.session.caller, request.path("alarm_id"), Definition(enabled=wanted)
        )
        notice = f"{alarm.name} is {'enabled' if wanted else 'disabled'}."
        return request.go(f"/console/alarms/{alarm.id}", notice)

    async def delete(self, request: PageRequest) -> Response:
        alarm = await self._alarms.get(request.session.caller, request.path("alarm_id"))
        await self._alarms.delete(request.session.caller, alarm.id)
        return request.go("/console/alarms", f"{alarm.name} is deleted.")

    async def check(self, request: PageRequest) -> Response:
        try:
            tree = parse(request.query.get("expression", ""))
        except HeliometerError as error:
            return request.json({"error": error.message.removeprefix("expression: ")})
        parts = [
            {"metric": str(part.metric), "series": await self._matching(request, part)}
            for part in subexpressions(tree)
        ]
        return request.json({"expression": str(tree), "parts": parts})

    async def _matching(self, request: PageRequest, part: Subexpression) -> int:
        metric = part.metric
        found = await self._metrics.list_series(
            request.session.caller, metric.namespace, dict(metric.dimensions), None, 1001
        )
        return len(found)

    async def preview(self, request: PageRequest) -> Response:
        hours = SPANS.get(request.query.get("since", "24h"))
        if hours is None:
            raise Malformed("since: is none of the spans.")
        expression = request.query.get("expression", "")
        try:
            tree = parse(expression)
            start = self._alarms.now_ms() - hours * 3_600_000
            found = await self._alarms.dry_run(request.session.caller, expression, start, None)
        except HeliometerError as error:
            text = f"{error.message} {error.details}".removeprefix("expression: ")
            return request.json({"error": text})
        spans = found.spans(State.ALARM)
        parts = subexpressions(tree)
        return request.json(
            {
                "start": found.start_ms // 1000,
                "end": found.end_ms // 1000,
                "lines": [{"label": str(part)} for part in parts],
                "thresholds": sorted({float(part.threshold) for part in parts}),
                "spans": [[a // 1000, b // 1000] for a, b in spans],
                "alarms": len(spans),
                "seconds": sum(b - a for a, b in spans) // 1000,
                **_thinned(found.minutes_ms, found.values),
            }
        )

    async def _context(self, request: PageRequest, alarm: Alarm | None) -> dict[str, Any]:
        return {
            "section": "alarms",
            "alarm": alarm,
            "methods": await self._notifications.list_methods(request.session.caller),
            "severities": SEVERITIES,
            "default_severity": DEFAULT_SEVERITY,
            "lists": LISTS,
            "spans": SPANS,
            "ways": _ways(request, alarm),
        }


def _definition(request: PageRequest) -> Definition:
    form = request.form
    wanted = Definition(
        name=form.get("name", "").strip(),
        expression=form.get("expression", "").strip(),
        description=form.get("description", "").strip(),
        severity=form.get("severity") or DEFAULT_SEVERITY,
    )
    actions = {name: tuple(request.many.get(name, ())) for name in LISTS}
    return replace(wanted, **actions)  # type: ignore[arg-type]


def _thinned(minutes_ms: Sequence[int], values: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Times and values for a chart, reduced to the largest magnitude of each stretch."""
    step = max(1, len(minutes_ms) // DRAWN)
    times = [at // 1000 for at in minutes_ms[::step]]
    thinned: list[list[float | None]] = []
    for line in values:
        kept: list[float | None] = []
        for at in range(0, len(minutes_ms), step):
            stretch = [v for v in line[at : at + step] if v is not None]
            kept.append(max(stretch, key=abs) if stretch else None)
        thinned.append(kept)
    return {"times": times, "values": thinned}


def _ways(request: PageRequest, alarm: Alarm | None) -> list[tuple[str, str]]:
    expression = request.form.get("expression") or "avg(shop{metric_name=orders}, 300) > 90"
    name = request.form.get("name") or "Many orders"
    root = f"{request.call.base_url}/v1.1/alarms"
    verb = f"-X PATCH {root}/{quote_path(alarm.id)}" if alarm else f"-X POST {root}"
    body = '{"alarm": {"name": "…", "expression": "…", "alarm_actions": ["…"]}}'
    return [
        ("Try it on history", f"heliometer alarms test {quote(expression)} --since 14d --plot"),
        ("Save it", f"heliometer alarms create {quote(name)} {quote(expression)}"),
        (
            "… with curl",
            f'curl -i {verb} -H "X-Auth-Token: $TOKEN" \\\n'
            f"  -H 'Content-Type: application/json' -d '{body}'",
        ),
    ]
