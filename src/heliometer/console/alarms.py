"""Alarms: the list, one alarm and why it is so, and the editor with its dry run."""

import re
from collections.abc import Sequence
from dataclasses import replace
from shlex import quote
from typing import Any
from urllib.parse import quote as quote_path

from starlette.responses import Response

from heliometer.alarms.expression.nodes import subexpressions
from heliometer.alarms.expression.parser import parse
from heliometer.alarms.model import DEFAULT_SEVERITY, SEVERITIES, Alarm, AlarmFilter, State
from heliometer.alarms.service import Alarms, Definition
from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.identity.model import Permission
from heliometer.metrics.service import Metrics
from heliometer.notifications.service import Notifications

_NUMBER = re.compile(r"[0-9]{1,15}")
PAGE = 100
HISTORY = 30
SPANS = {"3h": 3, "24h": 24, "7d": 168, "14d": 336}
"""How far back a dry run looks, in hours."""
DRAWN = 1500
"""Points of a line in the chart of a dry run, about."""
LISTS = ("alarm_actions", "ok_actions", "undetermined_actions")


def section(
    alarms: Alarms, notifications: Notifications, metrics: Metrics
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages."""

    async def listing(visit: PageRequest) -> Response:
        wanted = visit.query.get("state", "")
        states = frozenset[State]()
        if wanted in State.__members__:
            states = frozenset({State(wanted)})
            if wanted == "ALARM":
                states |= {State.FLAPPING}
        name = visit.query.get("q", "").strip()
        filters = AlarmFilter(name=name or None, states=states)
        caller = visit.session.caller
        found = await alarms.find(caller, filters, visit.query.get("after"), PAGE + 1)
        return visit.page(
            "alarms.html",
            section="alarms",
            alarms=found[:PAGE],
            more=found[PAGE - 1].id if len(found) > PAGE else "",
            state=wanted,
            q=name,
            states=("ALARM", "UNDETERMINED", "OK"),
        )

    async def show(visit: PageRequest) -> Response:
        caller = visit.session.caller
        alarm = await alarms.get(caller, visit.path("alarm_id"))
        explanation = None
        if alarm.enabled:
            try:
                _, explanation, _ = await alarms.explain(caller, alarm.id)
            except HeliometerError as error:
                if error.code is not Code.CONFLICT:
                    raise
        before = visit.query.get("before", "")
        history = await alarms.history(
            caller, alarm.id, int(before) if _NUMBER.fullmatch(before) else None, HISTORY + 1
        )
        methods = {m.id: m for m in await notifications.list_methods(caller)}
        return visit.page(
            "alarm.html",
            section="alarms",
            alarm=alarm,
            explanation=explanation,
            history=history[:HISTORY],
            more=history[HISTORY - 1].id if len(history) > HISTORY else "",
            methods=methods,
            lists=tuple((name, getattr(alarm, name)) for name in LISTS),
        )

    async def blank(visit: PageRequest) -> Response:
        visit.form = {"expression": visit.query.get("expression", ""), "name": ""}
        return visit.page("alarm_edit.html", **await _context(visit, None))

    async def create(visit: PageRequest) -> Response:
        try:
            alarm = await alarms.create(visit.session.caller, _definition(visit))
        except HeliometerError as error:
            return visit.wrong("alarm_edit.html", error, **await _context(visit, None))
        return visit.go(f"/console/alarms/{alarm.id}", f"{alarm.name} is watched from now on.")

    async def edit(visit: PageRequest) -> Response:
        alarm = await alarms.get(visit.session.caller, visit.path("alarm_id"))
        visit.form = {
            "name": alarm.name, "expression": alarm.expression, "description": alarm.description,
            "severity": alarm.severity,
        }  # fmt: skip
        visit.many = {name: list(getattr(alarm, name)) for name in LISTS}
        return visit.page("alarm_edit.html", **await _context(visit, alarm))

    async def change(visit: PageRequest) -> Response:
        caller = visit.session.caller
        alarm = await alarms.get(caller, visit.path("alarm_id"))
        try:
            await alarms.update(caller, alarm.id, _definition(visit))
        except HeliometerError as error:
            return visit.wrong("alarm_edit.html", error, **await _context(visit, alarm))
        return visit.go(f"/console/alarms/{alarm.id}", "Saved.")

    async def enable(visit: PageRequest) -> Response:
        wanted = visit.form.get("enabled") == "1"
        alarm = await alarms.update(
            visit.session.caller, visit.path("alarm_id"), Definition(enabled=wanted)
        )
        said = f"{alarm.name} is {'watched again' if wanted else 'not watched any more'}."
        return visit.go(f"/console/alarms/{alarm.id}", said)

    async def delete(visit: PageRequest) -> Response:
        alarm = await alarms.get(visit.session.caller, visit.path("alarm_id"))
        await alarms.delete(visit.session.caller, alarm.id)
        return visit.go("/console/alarms", f"{alarm.name} is deleted.")

    async def check(visit: PageRequest) -> Response:
        try:
            tree = parse(visit.query.get("expression", ""))
        except HeliometerError as error:
            return visit.json({"error": error.message.removeprefix("expression: ")})
        parts = [
            {"metric": str(part.metric), "series": _matching(visit, part)}
            for part in subexpressions(tree)
        ]
        return visit.json({"expression": str(tree), "parts": parts})

    def _matching(visit: PageRequest, part: Any) -> int:
        metric = part.metric
        found = metrics.list_series(
            visit.session.caller, metric.namespace, dict(metric.dimensions), None, 1001
        )
        return len(found)

    async def attempt(visit: PageRequest) -> Response:
        hours = SPANS.get(visit.query.get("since", "24h"))
        if hours is None:
            raise Malformed("since: is none of the spans.")
        expression = visit.query.get("expression", "")
        try:
            tree = parse(expression)
            start = alarms.now_ms() - hours * 3_600_000
            replay = await alarms.dry_run(visit.session.caller, expression, start, None)
        except HeliometerError as error:
            text = f"{error.message} {error.details}".removeprefix("expression: ")
            return visit.json({"error": text})
        spans = replay.spans(State.ALARM)
        parts = subexpressions(tree)
        return visit.json(
            {
                "start": replay.start_ms // 1000,
                "end": replay.end_ms // 1000,
                "lines": [{"label": str(part)} for part in parts],
                "thresholds": sorted({float(part.threshold) for part in parts}),
                "spans": [[a // 1000, b // 1000] for a, b in spans],
                "alarms": len(spans),
                "seconds": sum(b - a for a, b in spans) // 1000,
                **_thinned(replay.minutes_ms, replay.values),
            }
        )

    async def _context(visit: PageRequest, alarm: Alarm | None) -> dict[str, Any]:
        return {
            "section": "alarms",
            "alarm": alarm,
            "methods": await notifications.list_methods(visit.session.caller),
            "severities": SEVERITIES,
            "default_severity": DEFAULT_SEVERITY,
            "lists": LISTS,
            "spans": SPANS,
            "ways": _ways(visit, alarm),
        }

    read, manage = Permission.READ, Permission.MANAGE
    return (
        ("GET", "/alarms", "Alarms", listing, read),
        ("GET", "/alarms/new", "A new alarm", blank, manage),
        ("POST", "/alarms/new", "Create an alarm", create, manage),
        ("GET", "/alarms/check", "Whether an expression can be read", check, read),
        ("GET", "/alarms/try", "Try an expression on history", attempt, read),
        ("GET", "/alarms/{alarm_id}", "An alarm", show, read),
        ("GET", "/alarms/{alarm_id}/edit", "Edit an alarm", edit, manage),
        ("POST", "/alarms/{alarm_id}/edit", "Change an alarm", change, manage),
        ("POST", "/alarms/{alarm_id}/enable", "Watch an alarm, or do not", enable, manage),
        ("POST", "/alarms/{alarm_id}/delete", "Delete an alarm", delete, manage),
    )


def _definition(visit: PageRequest) -> Definition:
    form = visit.form
    wanted = Definition(
        name=form.get("name", "").strip(),
        expression=form.get("expression", "").strip(),
        description=form.get("description", "").strip(),
        severity=form.get("severity") or DEFAULT_SEVERITY,
    )
    actions = {name: tuple(visit.many.get(name, ())) for name in LISTS}
    return replace(wanted, **actions)  # type: ignore[arg-type]


def _thinned(minutes_ms: Sequence[int], values: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    """Times and values for a chart; of many, the extremes of each stretch stay."""
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


def _ways(visit: PageRequest, alarm: Alarm | None) -> list[tuple[str, str]]:
    expression = visit.form.get("expression") or "avg(shop{metric_name=orders}, 300) > 90"
    name = visit.form.get("name") or "Many orders"
    root = f"{visit.call.base_url}/v1.1/alarms"
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
