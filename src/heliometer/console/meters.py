"""The page of meters, custom ones included, and of the monitoring level."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import Code, HeliometerError, Invalid
from heliometer.http.paging import NumberedPage
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
"""Most meters on one page."""
SEARCHED = 100_000
"""In a project with more meters, a search finds whole names only."""
STEP = 1000
"""Meters that a search examines before it yields to other requests."""
ACTIVE = {"basic": 1, "premium": 30}
"""Custom meters that may receive samples in 24 hours by default, by level."""
TEXTS = {"name": 255, "resource_id": 64, "namespace": 32, "unit": 32, "display_name": 255}
"""Most characters of each field of a custom meter (002, Request Parameter)."""
_SYMBOLS = re.compile(r"[A-Za-z0-9._-]*")


def section(
    meters: Meters, metering: Metering
) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The page and its forms."""
    pages = MetersPage(meters, metering)
    return (
        ("GET", "/meters", "Meters", pages.show, Permission.READ),
        ("POST", "/meters", "Create a custom meter", pages.create, Permission.MANAGE),
        ("POST", "/meters/level", "Set the monitoring level", pages.set_level, Permission.MANAGE),
    )


class MetersPage:
    """One page; each form leads back to it."""

    def __init__(self, meters: Meters, metering: Metering) -> None:
        self._meters = meters
        self._metering = metering

    async def _shown(self, request: PageRequest) -> dict[str, Any]:
        """The context of the template."""
        caller, query = request.session.caller, request.query
        name, resource = query.get("name", "").strip(), query.get("resource", "").strip()
        per_page = min(max(_number(query.get("per_page", ""), PAGE), 1), MOST)
        everything = await self._meters.select(caller, {})
        found = await self._search(caller, everything, name, resource)
        page = NumberedPage(_number(query.get("page", ""), 1), per_page, len(found)).within()
        return {
            "section": "meters",
            "found": list(self._meters.meters(page.of(found))),
            "total": len(found),
            "start": page.start,
            "page": page.number,
            "pages": page.last,
            "per_page": per_page if per_page != PAGE else None,
            "name": name,
            "resource": resource,
            "is_any": bool(everything),
            "finds_parts": len(everything) <= SEARCHED,
            "level": await self._metering.level(caller),
            "levels": [(each, LEVEL_INTERVAL_S[each], ACTIVE[each]) for each in LEVELS],
            "types": TYPES,
            "form": "",
        }

    async def _search(
        self, caller: Caller, everything: Sequence[int], name: str, resource: str
    ) -> Sequence[int]:
        """The series ids of the meters whose names and resources contain these texts."""
        if not name and not resource:
            return everything
        if len(everything) > SEARCHED:
            wanted = {"name": name, "resource_id": resource}
            return await self._meters.select(caller, {k: v for k, v in wanted.items() if v})
        found: list[int] = []
        name, resource = name.lower(), resource.lower()
        for at in range(0, len(everything), STEP):
            found += [
                meter.series.id
                for meter in self._meters.meters(everything[at : at + STEP])
                if name in meter.name.lower() and resource in meter.resource_id.lower()
            ]
            await asyncio.sleep(0)
        return found

    async def show(self, request: PageRequest) -> Response:
        return request.page(TEMPLATE, **await self._shown(request))

    async def create(self, request: PageRequest) -> Response:
        caller, form = request.session.caller, request.form
        try:
            given = {key: form.get(key, "").strip() for key in (*TEXTS, "type")}
            item = _item(given, self._meters.now_ms())
            (made,) = await self._meters.put(caller, [item])
            if made.created_ms < item.recorded_ms:
                raise HeliometerError(
                    Code.CONFLICT,
                    f"name: the resource {made.resource_id} has a meter of this name already.",
                    details=f"It is a {made.type} in namespace {made.namespace}.",
                )
        except HeliometerError as error:
            return request.wrong(TEMPLATE, error, **{**await self._shown(request), "form": "meter"})
        return request.go(
            HERE, f"{_short(made.name)} was created in namespace {made.namespace}. "
            "It takes samples one minute from now."
        )  # fmt: skip

    async def set_level(self, request: PageRequest) -> Response:
        level = request.form.get("monitoring_level", "")
        try:
            await self._metering.set_level(request.session.caller, level)
        except HeliometerError as error:
            return request.wrong(TEMPLATE, error, **{**await self._shown(request), "form": "level"})
        return request.go(HERE, f"The monitoring level is {level} now.")


def _item(given: dict[str, str], now_ms: int) -> Item:
    """A custom meter from the form. Raises INVALID with the name of the field."""
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
        given["display_name"] or given["name"], None, now_ms,
    )  # fmt: skip


def _number(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else default


def _short(name: str) -> str:
    """A name that fits into a notice."""
    return name if len(name) <= 60 else f"{name[:59]}…"
