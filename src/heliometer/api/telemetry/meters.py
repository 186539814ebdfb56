"""Meters: list them (004), create custom ones and put samples into them (002)."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.api.telemetry import wire
from heliometer.api.telemetry.query import conditions, milliseconds, only_equal
from heliometer.core.aside import aside
from heliometer.core.errors import Malformed
from heliometer.http.answers import json_list
from heliometer.http.json import strict_loads
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.http.paging import NumberedPage
from heliometer.identity.model import Permission
from heliometer.meters.model import DELTA, TYPES, CustomMeter, Item, Meter, meter_id
from heliometer.meters.service import Meters
from heliometer.meters.validation import check_recorded, check_type

FIELDS = (
    "meter_id",
    "name",
    "project_id",
    "resource_id",
    "resource_name",
    "type",
    "namespace",
)
"""Fields of a query (004, Valid query fields)."""
ALIASES = {"meter": "name", "resource": "resource_id", "project": "project_id"}
"""Names that Ceilometer's clients use for some of them."""
UNRECOGNIZED = (
    "Unrecognized field in query. valid keys:"
    '["project_id", "timestamp", "resource_id", "resource_name", "meter"]'
)
METER_BYTES = 256
"""About the memory of a meter."""
ITEMS = 100
"""The most samples in one request (002)."""
LIMIT = 100_000
"""The largest ``limit`` of Ceilometer's clients: meters in one reply."""
_SYMBOLS = re.compile(r"[A-Za-z0-9._-]+")
_VOLUME = re.compile(r"[+-]?\d{1,12}(\.\d{1,4})?|[+-]?\.\d{1,4}")


class MeterOperations:
    """Handles requests for meters and for samples put into them."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def operations(self) -> tuple[Operation, ...]:
        """Operations that list meters, and those that create and write to them."""
        return (
            Operation(
                "GET", "/meters", "List meters", "004 List Meters", self.find, Permission.READ,
                parameters=LISTING,
            ),
            Operation(
                "POST", "/meters/{meter_name}", "Create and put a value into a custom meter",
                "002 Create and Put a value into Custom Meter", self.put, Permission.POST_METRICS,
                faults=(413, 415, 429), body=list[dict[str, Any]], example=_EXAMPLE,
            ),
        )  # fmt: skip

    async def find(self, call: Call) -> Response:
        number = wire.number(call, "page", 1, 10**9 - 1)
        size = wire.number(call, "per_page", wire.PER_PAGE, wire.MOST_PER_PAGE)
        found = await self._meters.select(call.caller, _wanted(call))
        query = call.request.query_params
        if query.get("unique", "").lower() in ("1", "true", "yes"):
            ids = found[:]  # it grows meanwhile
            unique = await aside(len(ids), lambda: _unique(self._meters.meters(ids)))
            return json_list(unique, render_unique, len(unique) * METER_BYTES, wire.CONTENT_TYPE)
        if "limit" in query and "per_page" not in query:
            size = wire.number(call, "limit", wire.PER_PAGE, LIMIT)
        page = NumberedPage(number, size, len(found))
        shown = page.of(found)
        reply = json_list(self._meters.meters(shown), render, 8 * len(shown), wire.CONTENT_TYPE)
        reply.headers.update(wire.page_headers(call, page))
        return reply

    async def put(self, call: Call) -> Response:
        name = call.path_params["meter_name"]
        body = await call.body()
        document = await call.decode(body, lambda: strict_loads(body))
        if not isinstance(document, list):
            document, body = [document], b"[" + body + b"]"
        if len(document) > ITEMS:
            raise Malformed("Request size is over than 100.")
        now = self._meters.now_ms()
        items = [_item(call, name, given, now) for given in document]
        volumes = [_raw(each) for each in msgspec.json.decode(body, type=list[msgspec.Raw])]
        meters = await self._meters.put(call.caller, items)
        return wire.reply(
            [
                _put_document(call, given, meter, volume, now)
                for given, meter, volume in zip(document, meters, volumes, strict=True)
            ]
        )


def _put_document(
    call: Call, given: dict[str, Any], meter: CustomMeter, volume: str, now: int
) -> dict[str, Any]:
    """An accepted item (002, Response Body)."""
    second = f"{wire.iso(now // 1000 * 1000)}Z"
    return {
        "project_id": call.caller.project_id,
        "namespace": meter.namespace,
        "resource_id": meter.resource_id,
        "counter_name": meter.name,
        "counter_type": meter.type,
        "counter_unit": meter.unit,
        "resource_metadata": {"display_name": meter.display_name},
        "timestamp": given.get("timestamp") or second,
        "counter_volume": volume,
        "source": "",
        "recorded_at": given.get("recorded_at") or second,
        "message_id": "",
    }


def render(meter: Meter) -> dict[str, Any]:
    """A meter (004, Response Body)."""
    return {
        "meter_id": meter.id,
        "name": meter.name,
        "display_name": meter.display_name,
        "project_id": meter.series.project_id,
        "resource_id": meter.resource_id,
        "namespace": meter.series.namespace,
        "source": "",
        "type": meter.type,
        "unit": meter.unit,
        "user_id": "",
    }


def _wanted(call: Call) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for field, value in only_equal(conditions(call.request.query_params)).items():
        known = ALIASES.get(field, field)
        if known not in FIELDS:
            raise Malformed(UNRECOGNIZED)
        if known == "type" and value not in TYPES:
            raise Malformed(f"Invalid meter type. valid meter types: {sorted(TYPES)}")
        if known == "project_id":
            wire.check_project(call.caller, value)
        else:
            wanted[known] = value
    return wanted


def _unique(found: Iterable[Meter]) -> list[Meter]:
    """Ceilometer's ``unique``: each combination of name, type and unit once, without a resource."""
    seen: dict[tuple[str, str, str], Meter] = {}
    for meter in found:
        seen.setdefault((meter.name, meter.type, meter.unit), meter)
    return list(seen.values())


def render_unique(meter: Meter) -> dict[str, Any]:
    """A meter without a resource."""
    return render(meter) | {"resource_id": "", "meter_id": meter_id("", meter.name)}


def _raw(item: msgspec.Raw) -> str:
    """The volume exactly as given; empty if it is absent."""
    given = msgspec.json.decode(item, type=dict[str, msgspec.Raw]).get("counter_volume")
    text = bytes(given).decode() if given is not None else ""
    return "" if text == "null" else text.strip('"')


def _item(call: Call, name: str, given: Any, now: int) -> Item:
    """One item, validated (002, Request Parameter). Raises MALFORMED."""
    if not isinstance(given, dict):
        raise Malformed("Each item must be an object.")
    project_id = given.get("project_id")
    if project_id is not None:
        wire.check_project(call.caller, str(project_id))
    counter_name = given.get("counter_name")
    if counter_name in (None, ""):
        raise Malformed("counter_name can't be blank.")
    if counter_name != name:
        raise Malformed("different from meter_name in counter_name.")
    _check_text("counter_name", counter_name, 255)
    resource_id = given.get("resource_id")
    if resource_id in (None, ""):
        raise Malformed("resource_id can't be blank.")
    _check_text("resource_id", resource_id, 64)
    namespace = given.get("namespace") or None
    if namespace is not None:
        _check_text("namespace", namespace, 32)
    unit = given.get("counter_unit") or ""
    if isinstance(unit, str) and len(unit) > 32:
        raise Malformed("counter_unit string size is over than 32.")
    if unit:
        _check_text("counter_unit", unit, 32)
    type_ = given.get("counter_type")
    check_type(DELTA if type_ is None else type_)
    metadata = given.get("resource_metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise Malformed("Invalid resource_metadata.")
    display_name = (metadata or {}).get("display_name") or counter_name
    _check_text("display_name", display_name, 255)
    _time("timestamp", given.get("timestamp"), now)
    recorded = _time("recorded_at", given.get("recorded_at"), now)
    check_recorded(recorded, now)
    return Item(
        counter_name, resource_id, namespace, type_ or DELTA, unit, display_name,
        _volume(given.get("counter_volume")), recorded,
    )  # fmt: skip


def _check_text(field: str, value: Any, most: int) -> None:
    if not isinstance(value, str) or len(value) > most or not _SYMBOLS.fullmatch(value):
        raise Malformed(f"Invalid {field}.")


def _time(field: str, given: Any, now: int) -> int:
    if given in (None, ""):
        return now // 1000 * 1000
    found = milliseconds(given) if isinstance(given, str) and len(given) <= 40 else None
    if found is None or "T" not in given:
        raise Malformed(f"Invalid {field}.")
    return found


def _volume(given: Any) -> float | None:
    if given is None or given == "":
        return None
    text = given
    if isinstance(given, int | float) and not isinstance(given, bool):
        # The limit applies to the digits, however a number is written.
        text = format(Decimal(repr(given)), "f")
        text = text[:-2] if text.endswith(".0") else text
    if not isinstance(text, str) or not _VOLUME.fullmatch(text):
        raise Malformed("Invalid counter_volume.")
    return float(text)


_EXAMPLE = [
    {
        "resource_id": "nova_bd9431c1-8d69-4ad3-803a-8d4a6b89fd36",
        "counter_name": "vm1_load_average", "counter_unit": "count",
        "counter_type": "gauge", "counter_volume": "1.01",
        "resource_metadata": {"display_name": "Load-Average"},
    }
]  # fmt: skip
LISTING = (
    Parameter("q.field", f"What to ask for: one of {', '.join(FIELDS)}.", example="name"),
    Parameter("q.op", "eq."),
    Parameter("q.type", "integer, float, boolean, string or datetime."),
    Parameter("q.value", "What it must be."),
    Parameter("page", "Page number.", schema={"type": "integer", "minimum": 1, "default": 1}),
    Parameter(
        "per_page", "Meters in one page.",
        schema={"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    ),
    Parameter("limit", "The same, as Ceilometer calls it.", schema={"type": "integer"}),
    Parameter("unique", "Each name once.", schema={"type": "boolean"}),
)  # fmt: skip
