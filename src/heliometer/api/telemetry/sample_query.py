"""Selecting samples by the conditions of a query string, as Ceilometer's API does."""

from heliometer.api.telemetry import wire
from heliometer.api.telemetry.query import METADATA, Condition, conditions, milliseconds
from heliometer.core.errors import Malformed
from heliometer.http.operation import Call
from heliometer.meters.sample_model import Comparison, Wanted

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
"""Fields that are always empty."""


def selection(call: Call, name: str | None = None) -> Wanted:
    """What the conditions of a request select. Raises MALFORMED, and UNAUTHENTICATED for another
    project."""
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
    # Nothing has a user or a source, so such a condition matches nothing.
    name, value = (field, condition.value) if field else ("name", "\0")
    if fields.setdefault(name, value) != value:
        fields[name] = "\0"


def _bounds(condition: Condition) -> tuple[int | None, int | None]:
    """A condition on the timestamp as [start, end) in milliseconds."""
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
