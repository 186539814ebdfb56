"""What the operations of Telemetry v2 answer with, for the OpenAPI description."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from heliometer.http.operation import Replies


class Problem(Struct):
    code: int
    message: str
    title: str


class Fault(Struct):
    """An error (004 and 002, Response Code). Of a health check, ``error`` is text, and ``failed``
    and ``degraded`` say by component what is wrong."""

    error: Problem | str
    failed: dict[str, str] | UnsetType = UNSET
    degraded: dict[str, str] | UnsetType = UNSET


class HealthReply(Struct):
    status: str
    degraded: dict[str, str] | UnsetType = UNSET


class MeterDocument(Struct):
    """A meter (004)."""

    meter_id: str
    name: str
    display_name: str
    project_id: str
    resource_id: str
    namespace: str
    source: str
    type: str
    unit: str
    user_id: str


class OldSample(Struct):
    """A sample as ``/v2/meters/NAME`` shows it."""

    counter_name: str
    counter_type: str
    counter_unit: str
    counter_volume: float
    message_id: str
    project_id: str
    recorded_at: str
    resource_id: str
    resource_metadata: dict[str, str]
    source: str
    timestamp: str
    user_id: str


class PutSample(Struct):
    """An accepted item (002)."""

    project_id: str
    namespace: str
    resource_id: str
    counter_name: str
    counter_type: str
    counter_unit: str
    resource_metadata: dict[str, Any]
    timestamp: str
    counter_volume: str
    source: str
    recorded_at: str
    message_id: str


class SampleDocument(Struct):
    """A sample as ``/v2/samples`` shows it."""

    id: str
    meter: str
    type: str
    unit: str
    volume: float
    user_id: str
    project_id: str
    resource_id: str
    source: str
    timestamp: str
    recorded_at: str
    metadata: dict[str, str]


class StatisticDocument(Struct):
    unit: str
    count: int
    sum: float | None
    avg: float | None
    min: float | None
    max: float | None
    period: int
    period_start: str
    period_end: str
    duration: float | None
    duration_start: str
    duration_end: str
    groupby: dict[str, str] | None
    aggregate: dict[str, float | None] | UnsetType = UNSET


class ResourceLink(Struct):
    rel: str
    href: str


class ResourceDocument(Struct):
    resource_id: str
    project_id: str
    user_id: str
    source: str
    first_sample_timestamp: str
    last_sample_timestamp: str
    metadata: dict[str, str]
    links: list[ResourceLink]


class CapabilitiesReply(Struct):
    api: dict[str, bool]
    storage: dict[str, bool]
    alarm_storage: dict[str, bool]
    event_storage: dict[str, bool]


class CeilometerAlarm(Struct):
    """An alarm in Ceilometer's form."""

    alarm_id: str
    name: str
    description: str
    enabled: bool
    severity: str
    state: str
    state_timestamp: str
    timestamp: str
    type: str
    project_id: str
    user_id: str
    repeat_actions: bool
    time_constraints: list[Any]
    threshold_rule: dict[str, Any]
    expression: str
    alarm_actions: list[str]
    ok_actions: list[str]
    insufficient_data_actions: list[str]
    combination_rule: dict[str, Any] | UnsetType = UNSET


class AlarmEvent(Struct):
    """An event in an alarm's history; ``detail`` is JSON as text."""

    event_id: str
    alarm_id: str
    type: str
    detail: str
    user_id: str
    project_id: str
    on_behalf_of: str
    timestamp: str


FAULT = Fault
V2: Replies = {
    "GET /health": HealthReply,
    "GET /meters": list[MeterDocument],
    "POST /meters/{meter_name}": list[PutSample],
    "GET /meters/{meter_name}": list[OldSample],
    "GET /meters/{meter_name}/statistics": list[StatisticDocument],
    "GET /samples": list[SampleDocument],
    "GET /samples/{sample_id}": SampleDocument,
    "GET /resources": list[ResourceDocument],
    "GET /resources/{resource_id}": ResourceDocument,
    "GET /capabilities": CapabilitiesReply,
    "POST /alarms": CeilometerAlarm,
    "GET /alarms": list[CeilometerAlarm],
    "GET /alarms/{alarm_id}": CeilometerAlarm,
    "PUT /alarms/{alarm_id}": CeilometerAlarm,
    "GET /alarms/{alarm_id}/state": str,
    "PUT /alarms/{alarm_id}/state": str,
    "GET /alarms/{alarm_id}/history": list[AlarmEvent],
}
