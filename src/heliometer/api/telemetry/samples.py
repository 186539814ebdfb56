"""Samples, statistics, resources and capabilities, in Ceilometer's forms."""

import math
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from heliometer.api.telemetry import wire
from heliometer.api.telemetry.query import Condition, conditions, milliseconds
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.meters.model import INSTANCE, NAME, RESOURCE
from heliometer.meters.samples import (
    NEWEST,
    Comparison,
    Resource,
    Sample,
    Samples,
    Statistic,
    Wanted,
)
from heliometer.meters.service import Meter

LIMIT = 100
"""Samples or resources in one answer, unless the request says how many (Ceilometer's default)."""
FIELDS = {
    "meter": "name",
    "counter_name": "name",
    "name": "name",
    "resource_id": "resource_id",
    "resource": "resource_id",
    "namespace": "namespace",
    "type": "type",
    "meter_id": "meter_id",
}
EMPTY_FIELDS = ("user", "user_id", "source")
"""What nothing here has: asked for as empty, everything matches, else nothing."""
METADATA = ("resource_metadata.", "metadata.")
GROUPS = ("resource_id", "project_id", "user_id", "source")
FUNCTIONS = ("avg", "sum", "min", "max", "count", "stddev", "cardinality")
CAPABILITIES = {
    "meters:query:simple": True,
    "meters:query:metadata": False,
    "meters:query:complex": False,
    "resources:query:simple": True,
    "resources:query:metadata": True,
    "resources:query:complex": False,
    "samples:query:simple": True,
    "samples:query:metadata": True,
    "samples:query:complex": False,
    "samples:query:pagination": False,
    "samples:query:groupby": True,
    "statistics:groupby": True,
    "statistics:query:simple": True,
    "statistics:query:metadata": True,
    "statistics:query:complex": False,
    "statistics:aggregation:standard": True,
    "statistics:aggregation:selectable:avg": True,
    "statistics:aggregation:selectable:cardinality": True,
    "statistics:aggregation:selectable:count": True,
    "statistics:aggregation:selectable:max": True,
    "statistics:aggregation:selectable:min": True,
    "statistics:aggregation:selectable:stddev": True,
    "statistics:aggregation:selectable:sum": True,
    "alarms:query:simple": True,
    "alarms:query:complex": False,
    "alarms:history:query:simple": True,
    "alarms:history:query:complex": False,
    "events:query:simple": False,
}
"""What is supported, in Ceilometer's words."""


def operations(samples: Samples) -> tuple[Operation, ...]:
    """The reading half of Ceilometer's reporting API."""

    async def of_meter(call: Call) -> Response:
        wanted = asked(call, name=call.path_params["meter_name"])
        found = await samples.newest(call.caller, wanted, wire.number(call, "limit", LIMIT, NEWEST))
        return wire.reply([old_form(sample) for sample in found])

    async def find(call: Call) -> Response:
        limit = wire.number(call, "limit", LIMIT, NEWEST)
        found = await samples.newest(call.caller, asked(call), limit)
        return wire.reply([new_form(sample) for sample in found])

    async def get(call: Call) -> Response:
        return wire.reply(new_form(await samples.get(call.caller, call.path_params["sample_id"])))

    async def statistics(call: Call) -> Response:
        query = call.request.query_params
        wanted = asked(call, name=call.path_params["meter_name"])
        period = None
        if query.get("period", "0").strip() not in ("", "0"):
            period = wire.number(call, "period", 0, 366 * 86_400)
        keys = query.getlist("groupby")
        group_of = _grouping(keys)
        aggregates = _aggregates(query.getlist("aggregate.func"), query.getlist("aggregate.param"))
        found, unit = await samples.statistics(call.caller, wanted, period, group_of)
        return wire.reply([_statistic(s, unit, period, keys, aggregates) for s in found])

    async def resources(call: Call) -> Response:
        limit = wire.number(call, "limit", LIMIT, 10_000)
        links = call.request.query_params.get("meter_links", "1") != "0"
        found = await samples.resources(call.caller, asked(call), limit)
        return wire.reply([_resource(call, each, links) for each in found])

    async def resource(call: Call) -> Response:
        resource_id = call.path_params["resource_id"]
        wanted = Wanted({"resource_id": resource_id})
        found = await samples.resources(call.caller, wanted, 1)
        if not found:
            raise HeliometerError(Code.NOT_FOUND, f"Resource {resource_id[:100]} Not Found")
        return wire.reply(_resource(call, found[0], links=True))

    async def capabilities(_: Call) -> Response:
        storage = {"storage:production_ready": True}
        return wire.reply(
            {"api": CAPABILITIES, "storage": storage, "alarm_storage": storage,
             "event_storage": {"storage:production_ready": False}}
        )  # fmt: skip

    read, source = Permission.READ, "Ceilometer v2"
    return (
        Operation(
            "GET", "/meters/{meter_name}", "List a meter's samples", source, of_meter, read,
            parameters=_LISTING,
        ),
        Operation(
            "GET", "/meters/{meter_name}/statistics", "Compute a meter's statistics", source,
            statistics, read, parameters=_STATISTICS,
        ),
        Operation("GET", "/samples", "List samples", source, find, read, parameters=_LISTING),
        Operation(
            "GET", "/samples/{sample_id}", "Get a sample", source, get, read, faults=(404,)
        ),
        Operation(
            "GET", "/resources", "List resources", source, resources, read, parameters=_LISTING
        ),
        Operation(
            "GET", "/resources/{resource_id}", "Get a resource", source, resource, read,
            faults=(404,),
        ),
        Operation(
            "GET", "/capabilities", "Tell what this API can do", source, capabilities, read
        ),
    )  # fmt: skip


def asked(call: Call, name: str | None = None) -> Wanted:
    """What the conditions of a request select. Raises MALFORMED, and the documented 401 for
    another project."""
    fields: dict[str, str] = {} if name is None else {"name": name}
    metadata: list[Comparison] = []
    start: int | None = None
    end: int | None = None
    for condition in conditions(call.request.query_params):
        if condition.field in ("timestamp", "start", "end", "start_timestamp", "end_timestamp"):
            low, high = _bounds(condition)
            if low is not None:
                start = low if start is None else max(start, low)
            if high is not None:
                end = high if end is None else min(end, high)
        elif condition.field.startswith(METADATA):
            key = condition.field.partition(".")[2]
            numeric = condition.type in ("integer", "float")
            metadata.append(Comparison(key, condition.op, condition.value, numeric))
        else:
            _add_field(call, fields, condition)
    return Wanted(fields, tuple(metadata), start, end)


def _add_field(call: Call, fields: dict[str, str], condition: Condition) -> None:
    if condition.op != "eq":
        raise Malformed(f"Unimplemented operator '{condition.op}' for specified field.")
    if condition.field in ("project_id", "project", "tenant_id"):
        wire.check_project(call.caller, condition.value)
        return
    field = FIELDS.get(condition.field)
    if field is None and condition.field not in EMPTY_FIELDS:
        raise Malformed(
            f"Unrecognized field in query: {condition.field[:40]}. valid keys: "
            f"{sorted({*FIELDS, 'project_id', 'timestamp', 'metadata.KEY'})}"
        )
    # Nothing has a user or a source: whoever asks for one finds nothing.
    name, value = (field, condition.value) if field else ("name", "\0")
    if fields.setdefault(name, value) != value:
        fields[name] = "\0"


def _bounds(condition: Condition) -> tuple[int | None, int | None]:
    """[start, end) of a condition on the timestamp."""
    moment = milliseconds(condition.value)
    if moment is None:
        raise Malformed(
            f"Unexpected exception converting '{condition.value[:100]}' to the expected data type "
            '"datetime".'
        )
    if condition.field.startswith("start"):
        return moment, None
    if condition.field.startswith("end"):
        return None, moment
    bounds: dict[str, tuple[int | None, int | None]] = {
        "lt": (None, moment),
        "le": (None, moment + 1),
        "eq": (moment, moment + 1),
        "ge": (moment, None),
        "gt": (moment + 1, None),
    }
    if condition.op not in bounds:
        raise Malformed(f"Unimplemented operator '{condition.op}' for specified field.")
    return bounds[condition.op]


def metadata_of(meter: Meter) -> dict[str, str]:
    """What is known of a meter's resource besides its name."""
    own = {k: v for k, v in meter.series.dimensions if k not in (NAME, RESOURCE, INSTANCE)}
    return {**own, "display_name": meter.display_name}


def old_form(sample: Sample) -> dict[str, Any]:
    """A sample as ``/v2/meters/NAME`` shows it (Ceilometer's OldSample)."""
    meter, at = sample.meter, wire.iso(sample.timestamp_ms)
    return {
        "counter_name": meter.name,
        "counter_type": meter.type,
        "counter_unit": meter.unit,
        "counter_volume": sample.value,
        "message_id": sample.id,
        "project_id": meter.series.project_id,
        "recorded_at": at,
        "resource_id": meter.resource_id,
        "resource_metadata": metadata_of(meter),
        "source": "",
        "timestamp": at,
        "user_id": "",
    }


def new_form(sample: Sample) -> dict[str, Any]:
    """A sample as ``/v2/samples`` shows it."""
    meter, at = sample.meter, wire.iso(sample.timestamp_ms)
    return {
        "id": sample.id,
        "meter": meter.name,
        "type": meter.type,
        "unit": meter.unit,
        "volume": sample.value,
        "user_id": "",
        "project_id": meter.series.project_id,
        "resource_id": meter.resource_id,
        "source": "",
        "timestamp": at,
        "recorded_at": at,
        "metadata": metadata_of(meter),
    }


def _grouping(keys: Sequence[str]) -> Callable[[Meter], tuple[str, ...]]:
    for key in keys:
        if key not in GROUPS and not key.startswith(METADATA):
            raise Malformed(f"Invalid groupby fields: {key[:40]}.")

    def group_of(meter: Meter) -> tuple[str, ...]:
        own = {
            "resource_id": meter.resource_id,
            "project_id": meter.series.project_id,
            **{f"{prefix}{k}": v for k, v in metadata_of(meter).items() for prefix in METADATA},
        }
        return tuple(own.get(key, "") for key in keys)

    return group_of


def _aggregates(functions: Sequence[str], params: Sequence[str]) -> list[tuple[str, str]]:
    """Functions with their parameters; those come in the order of the functions that want one."""
    left = list(params)
    found: list[tuple[str, str]] = []
    for function in functions:
        if function not in FUNCTIONS:
            raise Malformed(f"Invalid aggregate function: {function[:40]}.")
        param = ""
        if function == "cardinality":
            param = left.pop(0) if left else ""
            if param not in GROUPS:
                raise Malformed(f"aggregate.param: must be one of {', '.join(GROUPS)}.")
        found.append((function, param))
    return found


def _statistic(
    statistic: Statistic,
    unit: str,
    period: int | None,
    keys: Sequence[str],
    aggregates: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "unit": unit,
        "count": statistic.count,
        "sum": statistic.sum,
        "avg": statistic.avg,
        "min": statistic.min,
        "max": statistic.max,
        "period": period or 0,
        "period_start": wire.iso(statistic.start_ms),
        "period_end": wire.iso(statistic.end_ms),
        "duration": (statistic.last_ms - statistic.first_ms) / 1000,
        "duration_start": wire.iso(statistic.first_ms),
        "duration_end": wire.iso(statistic.last_ms),
        "groupby": dict(zip(keys, statistic.group, strict=True)) if keys else None,
    }
    if aggregates:
        document["aggregate"] = {
            f"{function}/{param}" if param else function: _aggregate(statistic, function, param)
            for function, param in aggregates
        }
    return {
        key: value if not isinstance(value, float) or math.isfinite(value) else None
        for key, value in document.items()
    }


def _aggregate(statistic: Statistic, function: str, param: str) -> float:
    if function != "cardinality":
        return float(getattr(statistic, function))
    # A series is of one resource; everything is of one project, and of no user or source.
    return float(len(statistic.resources) if param == "resource_id" else param == "project_id")


def _resource(call: Call, resource: Resource, links: bool) -> dict[str, Any]:
    here = f"{call.base_url}/v2"
    name = quote(resource.id, safe="")
    found = [{"rel": "self", "href": f"{here}/resources/{name}"}]
    if links:
        found += [
            {
                "rel": each,
                "href": f"{here}/meters/{quote(each, safe='')}?q.field=resource_id&q.value={name}",
            }
            for each in dict.fromkeys(m.name for m in resource.meters)
        ]
    metadata: dict[str, str] = {}
    for meter in resource.meters:
        metadata |= metadata_of(meter)
    metadata.pop("display_name", None)
    return {
        "resource_id": resource.id,
        "project_id": call.caller.project_id,
        "user_id": "",
        "source": "",
        "first_sample_timestamp": wire.iso(resource.first_ms),
        "last_sample_timestamp": wire.iso(resource.last_ms),
        "metadata": metadata,
        "links": found,
    }


_Q = (
    Parameter(
        "q.field", "What to ask for: meter, resource_id, project_id, timestamp, metadata.KEY.",
        example="resource_id",
    ),
    Parameter("q.op", "lt, le, eq, ne, ge or gt; eq unless given."),
    Parameter("q.type", "integer, float, boolean, string or datetime."),
    Parameter("q.value", "What to compare with."),
)  # fmt: skip
_LISTING = (
    *_Q,
    Parameter("limit", "How many; 100 unless given.", schema={"type": "integer", "minimum": 1}),
)
_STATISTICS = (
    *_Q,
    Parameter("period", "Seconds of one period; one for all unless given."),
    Parameter("groupby", "resource_id, project_id or resource_metadata.KEY; may be repeated."),
    Parameter("aggregate.func", f"Some of {', '.join(FUNCTIONS)}."),
    Parameter("aggregate.param", "What cardinality counts, such as resource_id."),
)
