"""Meters as Telemetry v2 sees them, custom ones, and the project's monitoring level."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.identity.model import Caller, Permission
from heliometer.meters.model import DELTA, TYPES, Item
from heliometer.meters.service import Meters
from heliometer.metrics.validation import RESERVED_PREFIX
from heliometer.projects.metering import Metering
from heliometer.projects.model import LEVEL_INTERVAL_S, LEVELS

HERE = "/console/meters"
TEMPLATE = "meters.html"
PAGE = 50
MOST = 1000
"""Meters on one page."""
SEARCHED = 100_000
"""Meters of a project up to which a part of a name is found; among more, only whole names are."""
STEP = 1000
"""Meters that are looked at before others get a turn."""
ACTIVE = {"basic": 1, "premium": 30}
"""Custom meters that may get samples in 24 hours, unless the operator says otherwise."""
TEXTS = {"name": 255, "resource_id": 64, "namespace": 32, "unit": 32, "display_name": 255}
"""Characters of the fields of a custom meter at most (002, Request Parameter)."""
_SYMBOLS = re.compile(r"[A-Za-z0-9._-]*")


def section(
    meters: Meters, metering: Metering
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages."""

    async def shown(visit: PageRequest) -> dict[str, Any]:
        """What the page shows, whatever was asked of it."""
        caller, query = visit.session.caller, visit.query
        name, resource = query.get("name", "").strip(), query.get("resource", "").strip()
        per_page = min(max(_number(query.get("per_page", ""), PAGE), 1), MOST)
        everything = await meters.select(caller, {})
        found = await search(caller, everything, name, resource)
        pages = max(1, -(-len(found) // per_page))
        page = min(max(_number(query.get("page", ""), 1), 1), pages)
        start = (page - 1) * per_page
        return {
            "section": "meters",
            "found": meters.meters(found[start : start + per_page]),
            "total": len(found),
            "start": start,
            "page": page,
            "pages": pages,
            "per_page": per_page if per_page != PAGE else None,
            "name": name,
            "resource": resource,
            "is_any": bool(everything),
            "finds_parts": len(everything) <= SEARCHED,
            "level": await metering.level(caller),
            "levels": [(each, LEVEL_INTERVAL_S[each], ACTIVE[each]) for each in LEVELS],
            "types": TYPES,
            "form": "",
        }

    async def search(
        caller: Caller, everything: Sequence[int], name: str, resource: str
    ) -> Sequence[int]:
        """The ids of the meters whose names and resources contain these texts."""
        if not name and not resource:
            return everything
        if len(everything) > SEARCHED:
            wanted = {"name": name, "resource_id": resource}
            return await meters.select(caller, {k: v for k, v in wanted.items() if v})
        found: list[int] = []
        name, resource = name.lower(), resource.lower()
        for at in range(0, len(everything), STEP):
            found += [
                meter.series.id
                for meter in meters.meters(everything[at : at + STEP])
                if name in meter.name.lower() and resource in meter.resource_id.lower()
            ]
            await asyncio.sleep(0)
        return found

    async def page(visit: PageRequest) -> Response:
        return visit.page(TEMPLATE, **await shown(visit))

    async def create(visit: PageRequest) -> Response:
        caller, form = visit.session.caller, visit.form
        try:
            item = _item({key: form.get(key, "").strip() for key in (*TEXTS, "type")}, meters)
            (made,) = await meters.put(caller, [item])
            if made.created_ms < item.recorded_ms:
                raise HeliometerError(
                    Code.CONFLICT,
                    f"name: the resource {made.resource_id} has a meter of this name already.",
                    details=f"It is a {made.type} in namespace {made.namespace}.",
                )
        except HeliometerError as error:
            return visit.wrong(TEMPLATE, error, **{**await shown(visit), "form": "meter"})
        return visit.go(
            HERE, f"{_short(made.name)} was created in namespace {made.namespace}. "
            "It takes samples one minute from now."
        )  # fmt: skip

    async def set_level(visit: PageRequest) -> Response:
        level = visit.form.get("monitoring_level", "")
        try:
            await metering.set_level(visit.session.caller, level)
        except HeliometerError as error:
            return visit.wrong(TEMPLATE, error, **{**await shown(visit), "form": "level"})
        return visit.go(HERE, f"The monitoring level is {level} now.")

    return (
        ("GET", "/meters", "Meters", page, Permission.READ),
        ("POST", "/meters", "Create a custom meter", create, Permission.MANAGE),
        ("POST", "/meters/level", "Set the monitoring level", set_level, Permission.MANAGE),
    )


def _item(given: dict[str, str], meters: Meters) -> Item:
    """A custom meter as it was asked for; raise INVALID with the field that is wrong."""
    for field, most in TEXTS.items():
        value = given[field]
        if field in ("name", "resource_id") and not value:
            raise Invalid(f"{field}: must not be empty.")
        if len(value) > most:
            raise Invalid(f"{field}: may have up to {most} characters, not {len(value)}.")
        if not _SYMBOLS.fullmatch(value):
            raise Invalid(f"{field}: only a-z A-Z 0-9 . - _ are allowed.")
    if given["namespace"].startswith(RESERVED_PREFIX):
        raise Invalid(f"namespace: those that start with {RESERVED_PREFIX} are the service's own.")
    type_ = given["type"] or DELTA
    if type_ not in TYPES:
        raise Invalid(f"type: must be one of {', '.join(TYPES)}.")
    return Item(
        given["name"], given["resource_id"], given["namespace"] or None, type_, given["unit"],
        given["display_name"] or given["name"], None, meters.now_ms(),
    )  # fmt: skip


def _number(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else default


def _short(name: str) -> str:
    """A name in what is said: no more than a line may hold."""
    return name if len(name) <= 60 else f"{name[:59]}…"
