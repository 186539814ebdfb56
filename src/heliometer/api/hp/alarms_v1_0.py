"""Alarms of v1.0 (§4.4.5): the same alarms, as far as this form can express them.

An alarm of v1.0 compares the measurements of one metric of ``compute`` with a threshold: a direct
comparison on ``hpcs.compute``. v1.0's counters are v1.1's metrics with ``_count`` behind the name;
``metric_subject`` is the dimension ``device``, in any case.
"""

from typing import Any, Literal

import msgspec
from starlette.responses import Response

from heliometer.alarms.expression import Metric, Subexpression, parse
from heliometer.alarms.expression.nodes import Operator
from heliometer.alarms.model import Alarm, AlarmFilter
from heliometer.alarms.service import Alarms, Definition
from heliometer.api.hp import wire
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import Call, Operation
from heliometer.identity.model import Permission
from heliometer.metrics.validation import check_dimension

NAMESPACES = {"compute": "hpcs.compute"}
METRICS = {
    "cpu_total_time": "cpu_total_time",
    **{
        name: f"{name}_count"
        for name in (
            "disk_read_ops", "disk_write_ops", "disk_read_bytes", "disk_write_bytes",
            "net_in_bytes", "net_out_bytes", "net_in_packets", "net_out_packets",
            "net_in_dropped", "net_out_dropped", "net_in_errors", "net_out_errors",
        )
    },
}  # fmt: skip
"""v1.0's metric types (§2.1.2.3), and the names of the same counters in v1.1 (§2.3.2)."""
DIMENSIONS = ("instance_id",)
EXACT = 1 << 53
"""Floats represent smaller whole numbers exactly."""
OPERATORS: dict[str, Operator] = {"LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}

_TYPE_OF = {name: type_ for type_, name in METRICS.items()}
_WORD_OF = {operator: word for word, operator in OPERATORS.items()}


class AlarmFields(msgspec.Struct, forbid_unknown_fields=True):
    """An alarm in the form of v1.0."""

    name: str
    namespace: str
    metric_type: str
    dimensions: dict[str, str]
    operator: Literal["LT", "LTE", "GT", "GTE"]
    threshold: float
    metric_subject: str | None = None
    alarm_actions: list[str] = []


class AlarmBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request to create an alarm."""

    alarm: AlarmFields


class AlarmOperations:
    """Alarms in the form of v1.0."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms

    def operations(self) -> tuple[Operation, ...]:
        """The operations of v1.0."""
        read, manage = Permission.READ, Permission.MANAGE
        return (
            Operation(
                "POST", "/alarms", "Create a new alarm", "v1.0 §4.4.5.1",
                wire.only_400(self.create), manage, 201, (409, 413, 415, 429), body=AlarmBody,
                example=_EXAMPLE,
            ),
            Operation("GET", "/alarms", "List all alarms", "v1.0 §4.4.5.2", self.find, read),
            Operation(
                "GET", "/alarms/{alarm_id}", "Get a specific alarm", "v1.0 §4.4.5.3", self.get,
                read, 200, (404,),
            ),
            Operation(
                "DELETE", "/alarms/{alarm_id}", "Delete a specific alarm", "v1.0 §4.4.5.4",
                self.delete, manage, 204, (404,),
            ),
        )  # fmt: skip

    async def create(self, call: Call) -> Response:
        wanted = (await wire.body(call, AlarmBody)).alarm
        definition = Definition(
            name=wanted.name,
            expression=str(_expression(wanted)),
            alarm_actions=tuple(wanted.alarm_actions),
        )
        alarm = await self._alarms.create(call.caller, definition)
        return wire.created(call, _path(alarm.id), {"alarm": _document(call, alarm)})

    async def find(self, call: Call) -> Response:
        found = await self._alarms.find(call.caller, AlarmFilter())
        documents = (_document(call, a) for a in found)
        known = (d for d in documents if d is not None)
        return wire.list_response("alarms", known, lambda d: d, {}, len(found))

    async def get(self, call: Call) -> Response:
        return wire.json_response({"alarm": (await self._expressible(call))[1]})

    async def delete(self, call: Call) -> Response:
        alarm, _ = await self._expressible(call)
        await self._alarms.delete(call.caller, alarm.id)
        return Response(status_code=204)

    async def _expressible(self, call: Call) -> tuple[Alarm, dict[str, Any]]:
        """The alarm of the path with its document. Raises NOT_FOUND if v1.0 has none for it."""
        alarm = await self._alarms.get(call.caller, call.path_params["alarm_id"])
        document = _document(call, alarm)
        if document is None:
            raise HeliometerError(
                Code.NOT_FOUND, f"There is no alarm {alarm.id!r} in v1.0.",
                details="Its expression can be seen through v1.1 only.",
            )  # fmt: skip
        return alarm, document


def _expression(wanted: AlarmFields) -> Subexpression:
    if wanted.namespace not in NAMESPACES:
        raise Malformed(
            f"alarm.namespace: {wanted.namespace[:40]!r} is none of v1.0; "
            f"allowed is {', '.join(NAMESPACES)}."
        )
    if wanted.metric_type not in METRICS:
        raise Malformed(
            f"alarm.metric_type: {wanted.metric_type[:40]!r} is none; "
            f"allowed are {', '.join(METRICS)}."
        )
    dimensions = {"metric_name": METRICS[wanted.metric_type]}
    for key, value in wanted.dimensions.items():
        if key not in DIMENSIONS:
            raise Malformed(
                f"alarm.dimensions: {key[:40]!r} is none; allowed is {', '.join(DIMENSIONS)}."
            )
        check_dimension(key, value, "alarm.dimensions")
        dimensions[key] = value
    if "instance_id" not in dimensions:
        raise Malformed("alarm.dimensions: instance_id is missing.")
    if wanted.metric_subject is not None:
        dimensions["device"] = wanted.metric_subject.lower()
        check_dimension("metric_subject", dimensions["device"], "alarm")
    metric = Metric(NAMESPACES[wanted.namespace], tuple(sorted(dimensions.items())))
    return Subexpression(metric, OPERATORS[wanted.operator], wanted.threshold)


def _path(alarm_id: str) -> str:
    return f"/v1.0/alarms/{alarm_id}"


def _document(call: Call, alarm: Alarm) -> dict[str, Any] | None:
    """The alarm in v1.0's form; ``None`` if that cannot express it."""
    part = parse(alarm.expression)
    if not isinstance(part, Subexpression) or part.function is not None:
        return None
    dimensions = dict(part.metric.dimensions)
    metric_type = _TYPE_OF.get(dimensions.pop("metric_name", ""))
    subject = dimensions.pop("device", None)
    namespaces = {name: short for short, name in NAMESPACES.items()}
    if (
        part.metric.namespace not in namespaces
        or metric_type is None
        or not dimensions.keys() <= set(DIMENSIONS)
    ):
        return None
    document: dict[str, Any] = {
        "id": alarm.id,
        "links": wire.self_link(call, _path(alarm.id)),
        "name": alarm.name,
        "namespace": namespaces[part.metric.namespace],
        "metric_type": metric_type,
    }
    if subject is not None:
        document["metric_subject"] = subject.upper()
    threshold = part.threshold
    return {
        **document,
        "dimensions": dimensions,
        "operator": _WORD_OF[part.operator],
        "threshold": int(threshold) if abs(threshold) < EXACT and threshold % 1 == 0 else threshold,
        "state": alarm.state.value,
        "alarm_actions": alarm.alarm_actions,
    }


_EXAMPLE = {
    "alarm": {
        "name": "Disk exceeds 1k operations",
        "namespace": "compute",
        "metric_type": "disk_read_ops",
        "metric_subject": "VDA",
        "dimensions": {"instance_id": "392633"},
        "operator": "GTE",
        "threshold": 1000,
        "alarm_actions": [],
    }
}
