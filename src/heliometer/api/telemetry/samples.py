"""Samples, statistics, resources and capabilities: Ceilometer's reporting API."""

from collections.abc import Callable, Sequence

from starlette.responses import Response

from heliometer.api.telemetry import wire
from heliometer.api.telemetry.query import METADATA
from heliometer.api.telemetry.sample_documents import (
    metadata_of,
    new_form,
    old_form,
    resource_document,
    statistic_document,
)
from heliometer.api.telemetry.sample_query import selection
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.answers import json_list
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.meters.model import Meter
from heliometer.meters.sample_model import Wanted
from heliometer.meters.samples import NEWEST, Samples

LIMIT = 100
"""Samples or resources in a reply by default, as in Ceilometer."""
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
"""Supported features by Ceilometer's names."""


class SampleOperations:
    """Handles the reading requests of Ceilometer's reporting API."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def operations(self) -> tuple[Operation, ...]:
        """Samples of one or all meters, statistics, resources and capabilities."""
        read, source = Permission.READ, "Ceilometer v2"
        return (
            Operation(
                "GET", "/meters/{meter_name}", "List a meter's samples", source, self.of_meter,
                read, parameters=_LISTING,
            ),
            Operation(
                "GET", "/meters/{meter_name}/statistics", "Compute a meter's statistics", source,
                self.statistics, read, parameters=_STATISTICS,
            ),
            Operation(
                "GET", "/samples", "List samples", source, self.find, read, parameters=_LISTING
            ),
            Operation(
                "GET", "/samples/{sample_id}", "Get a sample", source, self.get, read,
                faults=(404,),
            ),
            Operation(
                "GET", "/resources", "List resources", source, self.resources, read,
                parameters=_LISTING,
            ),
            Operation(
                "GET", "/resources/{resource_id}", "Get a resource", source, self.resource, read,
                faults=(404,),
            ),
            Operation(
                "GET", "/capabilities", "Tell what this API can do", source, self.capabilities,
                read,
            ),
        )  # fmt: skip

    async def of_meter(self, call: Call) -> Response:
        wanted = selection(call, name=call.path_params["meter_name"])
        limit = wire.number(call, "limit", LIMIT, NEWEST)
        found = await self._samples.newest(call.caller, wanted, limit)
        return json_list(found, old_form, found.held_bytes, wire.CONTENT_TYPE)

    async def find(self, call: Call) -> Response:
        limit = wire.number(call, "limit", LIMIT, NEWEST)
        found = await self._samples.newest(call.caller, selection(call), limit)
        return json_list(found, new_form, found.held_bytes, wire.CONTENT_TYPE)

    async def get(self, call: Call) -> Response:
        sample = await self._samples.get(call.caller, call.path_params["sample_id"])
        return wire.reply(new_form(sample))

    async def statistics(self, call: Call) -> Response:
        query = call.request.query_params
        wanted = selection(call, name=call.path_params["meter_name"])
        period = None
        if query.get("period", "0").strip() not in ("", "0"):
            period = wire.number(call, "period", 0, 366 * 86_400)
        keys = query.getlist("groupby")
        group_of = _grouping(keys)
        aggregates = _aggregates(query.getlist("aggregate.func"), query.getlist("aggregate.param"))
        found, unit = await self._samples.statistics(call.caller, wanted, period, group_of)
        return wire.reply([statistic_document(s, unit, period, keys, aggregates) for s in found])

    async def resources(self, call: Call) -> Response:
        limit = wire.number(call, "limit", LIMIT, 10_000)
        links = call.request.query_params.get("meter_links", "1") != "0"
        found = await self._samples.resources(call.caller, selection(call), limit)
        return json_list(
            found,
            lambda each: resource_document(call, each, links),
            found.held_bytes,
            wire.CONTENT_TYPE,
        )

    async def resource(self, call: Call) -> Response:
        resource_id = call.path_params["resource_id"]
        found = await self._samples.resources(call.caller, Wanted({"resource_id": resource_id}), 1)
        for each in found:
            return wire.reply(resource_document(call, each, links=True))
        raise HeliometerError(Code.NOT_FOUND, f"Resource {resource_id[:100]} Not Found")

    async def capabilities(self, _: Call) -> Response:
        storage = {"storage:production_ready": True}
        return wire.reply(
            {"api": CAPABILITIES, "storage": storage, "alarm_storage": storage,
             "event_storage": {"storage:production_ready": False}}
        )  # fmt: skip


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
    """Functions with their parameters, which are in the order of the functions that need one."""
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
