"""HP Helion Public Cloud Monitoring API v1.1: versions, metrics, metering; the rest beside it."""

import base64
import hashlib
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.responses import Response

from heliometer.alarms.service import Alarms
from heliometer.api.hp import alarms as alarm_operations
from heliometer.api.hp import notifications as notification_operations
from heliometer.api.hp import streams as stream_operations
from heliometer.api.hp import versions, wire
from heliometer.api.hp.faults import render_fault
from heliometer.api.hp.metrics_json import read_metrics
from heliometer.core.errors import HeliometerError, Invalid, Malformed
from heliometer.feed.service import Streams
from heliometer.http.json import strict_loads
from heliometer.http.operation import Call, Dialect, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.reports import Reports
from heliometer.metrics.service import Metrics, Query
from heliometer.metrics.statistics import STATISTICS
from heliometer.notifications.service import Notifications
from heliometer.notifications.verification import Validation
from heliometer.projects.metering import Metering

DEFAULT_PERIOD_S = 300
LIST_LIMIT = 1000


class Metric(msgspec.Struct):
    """The metrics JSON, scalar or vector form (v1.1 §2.4)."""

    namespace: str
    dimensions: dict[str, str] = {}
    timestamp: float | None = None
    value: float | None = None
    time_values: list[tuple[float, float]] | None = None


class SeriesDatapoints(msgspec.Struct):
    """Statistics of one series: arrays of one length, by statistic (v1.1 §4.4.7.3)."""

    dimensions: dict[str, str]
    datapoints: dict[str, list[float]]


class MeteringSetting(msgspec.Struct):
    """A setting for support and billing (v1.1 §4.4.8)."""

    setting: str
    value: str


class ListedSeries(msgspec.Struct):
    """A series."""

    namespace: str
    dimensions: dict[str, str]


class SeriesPage(msgspec.Struct):
    """Series, and a link to more."""

    series: list[ListedSeries]
    links: list[dict[str, str]]


class ProjectReport(msgspec.Struct):
    """What an agent measured for one project."""

    metrics: msgspec.Raw
    """An array of metrics (v1.1 §2.4)."""
    project: str = ""
    """Id or name; the agent's own without."""


class Report(msgspec.Struct):
    """What an agent measured in one round."""

    reports: list[ProjectReport]


class ReportOutcome(msgspec.Struct):
    """What became of it."""

    intervals: dict[str, int]
    refused: list[dict[str, str]]


def dialect(
    metrics: Metrics,
    reports: Reports,
    metering: Metering,
    alarms: Alarms,
    notifications: Notifications,
    validation: Validation,
    streams: Streams,
) -> Dialect:
    """The dialect over these use cases."""

    async def create(call: Call) -> Response:
        wire.require_json_body(call)
        headers = call.request.headers
        project = await metrics.target(call.caller, headers.get("x-tenant-id"))
        body = await call.body()
        now_ms = metrics.now_ms()
        columns = read_metrics(
            body, project, now_ms,
            reserved_allowed=Permission.POST_RESERVED in call.caller.permissions,
        )  # fmt: skip
        receipt = _receipt(call, body, now_ms, project.project_id)
        await metrics.post(project, columns, receipt)
        return Response(status_code=204)

    async def report(call: Call) -> Response:
        wire.require_json_body(call)
        body = await call.body()
        now_ms = metrics.now_ms()
        reserved = Permission.POST_RESERVED in call.caller.permissions
        parts = {
            part.project: partial(
                read_metrics, bytes(part.metrics), now_ms=now_ms, reserved_allowed=reserved
            )
            for part in _read_report(body)
        }
        outcome = await reports.take(call.caller, parts, _receipt(call, body, now_ms))
        return wire.json_response(
            {
                "intervals": outcome.intervals_s,
                "refused": [
                    {"project": project, "message": message}
                    for project, message in outcome.refused.items()
                ],
            }
        )

    async def get(call: Call) -> Response:
        query = call.request.query_params
        namespace = wire.required(query, "namespace", "Such as namespace=user_namespace.")
        statistics = wire.required(query, "statistics", f"Any of {', '.join(STATISTICS)}.")
        start = wire.required(query, "start_time", "Such as start_time=2013-11-01T12:00Z.")
        end = wire.only(query, "end_time")
        period = wire.only(query, "period") or str(DEFAULT_PERIOD_S)
        found = await metrics.query(
            call.caller,
            Query(
                namespace,
                wire.dimensions(query.getlist("dimensions")),
                list(dict.fromkeys(s.strip().lower() for s in statistics.split(","))),
                wire.time_ms("start_time", start),
                wire.time_ms("end_time", end) if end else metrics.now_ms() + 1,
                wire.whole_number("period", period, 1, 366 * 86_400),
            ),
        )
        return wire.json_response(
            [
                {
                    "dimensions": dict(each.series.dimensions),
                    "datapoints": {"timestamp": each.timestamps_s, **each.statistics},
                }
                for each in found
            ]
        )

    async def list_series(call: Call) -> Response:
        query = call.request.query_params
        limit = wire.whole_number("limit", wire.only(query, "limit") or "100", 1, LIST_LIMIT)
        marker = wire.only(query, "marker")
        found = metrics.list_series(
            call.caller,
            wire.only(query, "namespace"),
            wire.dimensions(query.getlist("dimensions")),
            _read_marker(marker) if marker else None,
            limit + 1,
        )
        links = []
        if len(found) > limit:
            found = found[:limit]
            kept = [(k, v) for k, v in query.multi_items() if k != "marker"]
            last = _marker(found[-1].namespace, found[-1].dimensions)
            href = f"{call.base_url}/v1.1/metrics/series?{urlencode([*kept, ('marker', last)], quote_via=quote)}"  # noqa: E501
            links.append({"rel": "next", "href": href})
        series = [{"namespace": s.namespace, "dimensions": dict(s.dimensions)} for s in found]
        return wire.json_response({"series": series, "links": links})

    async def get_level(call: Call) -> Response:
        return _setting(await metering.level(call.caller))

    async def set_level(call: Call) -> Response:
        level = wire.required(
            call.request.query_params, "monitoring_level", "Such as monitoring_level=premium."
        )
        await metering.set_level(call.caller, level)
        return _setting(level)

    metric_example = {
        "namespace": "user_namespace",
        "dimensions": {"metric_name": "user_metric", "instance_id": "392633"},
        "value": 123.0,
    }
    posting = (
        Parameter(
            "Idempotency-Key",
            "Names this post, so that sending it again within 24 hours stores nothing twice.",
            where="header",
        ),
        Parameter(
            "X-Tenant-Id", "Project that an agent reports for; its own without.", where="header"
        ),
    )
    return Dialect(
        "hp-v1.1",
        "HP Helion Public Cloud Monitoring API v1.1",
        "/v1.1",
        (
            versions.get_version(versions.V1_1, "v1.1 §4.4.1.2"),
            Operation(
                "POST", "/metrics", "Create a new metric", "v1.1 §4.4.7.1", create,
                Permission.POST_METRICS, 204, (409, 413, 415, 422, 429, 503),
                posting, Metric, None, metric_example,
            ),
            Operation(
                "POST", "/metrics/aggregate", "Create new aggregated metrics", "v1.1 §4.4.7.2",
                create, Permission.POST_METRICS, 204, (409, 413, 415, 422, 429, 503),
                posting, list[Metric], None, [metric_example],
            ),
            Operation(
                "POST", "/metrics/reports", "Report for several projects at once",
                "beyond the documents", report, Permission.POST_METRICS, 200,
                (403, 409, 413, 415, 422), posting[:1], reply=ReportOutcome,
            ),
            Operation(
                "GET", "/metrics", "Get metric datapoints", "v1.1 §4.4.7.3", get, Permission.READ,
                parameters=_QUERY, reply=list[SeriesDatapoints],
            ),
            Operation(
                "GET", "/metrics/series", "List series", "beyond the documents", list_series,
                Permission.READ, parameters=_LIST, reply=SeriesPage,
            ),
            Operation(
                "POST", "/metering", "Set the monitoring level", "v1.1 §4.4.8.1", set_level,
                Permission.MANAGE, reply=MeteringSetting,
                parameters=(
                    Parameter(
                        "monitoring_level", "Resolution of system metrics: 300 s or 60 s.", True,
                        schema={"type": "string", "enum": ["basic", "premium"]},
                        example="premium",
                    ),
                ),
            ),
            Operation(
                "GET", "/metering", "Get the monitoring level", "v1.1 §4.4.8.2", get_level,
                Permission.READ, reply=MeteringSetting,
            ),
            *stream_operations.operations_v1_1(streams),
            *alarm_operations.operations(alarms),
            *notification_operations.operations_v1_1(notifications, validation),
        ),
        render_fault,
    )  # fmt: skip


_NAMESPACE = Parameter("namespace", "The namespace.", True, example="user_namespace")
_DIMENSIONS = Parameter(
    "dimensions",
    "Pairs key:value separated by commas; every series that has at least these. A comma or "
    "backslash in a value is preceded by a backslash.",
    example="metric_name:user_metric",
)
_QUERY = (
    _NAMESPACE,
    _DIMENSIONS,
    Parameter(
        "statistics", f"Separated by commas: {', '.join(STATISTICS)}.", True, example="avg,max"
    ),
    Parameter(
        "start_time", "ISO 8601, inclusive; UTC unless it names a zone.", True,
        example="2013-11-01T12:00Z",
    ),
    Parameter("end_time", "ISO 8601, exclusive; now unless given."),
    Parameter(
        "period", "Seconds of one datapoint; periods are aligned to its multiples.",
        schema={"type": "integer", "minimum": 1, "default": DEFAULT_PERIOD_S},
    ),
)  # fmt: skip
_LIST = (
    Parameter("namespace", "Only this namespace."),
    _DIMENSIONS,
    Parameter(
        "limit", "Series in one answer.",
        schema={"type": "integer", "minimum": 1, "maximum": LIST_LIMIT, "default": 100},
    ),
    Parameter("marker", "Where the answer before ended; the link to the next holds it."),
)  # fmt: skip


def _receipt(call: Call, body: bytes, now_ms: int, project_id: str = "") -> Receipt | None:
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return None
    digest = hashlib.blake2b(body, digest_size=16).digest()
    return Receipt(project_id or call.caller.project_id, key, digest, now_ms)


def _read_report(body: bytes) -> list[ProjectReport]:
    strict_loads(body)  # for its messages, and for names that stand twice
    try:
        found = msgspec.json.decode(body, type=Report).reports
    except msgspec.ValidationError as error:
        raise Invalid(
            f"reports: {str(error).replace('`', '')}.",
            details='Such as {"reports": [{"project": "shop", "metrics": [{"namespace": "n", '
            '"value": 1}]}]}.',
        ) from error
    if len({part.project for part in found}) != len(found):
        raise Invalid("reports: a project is named twice.")
    return found


def _setting(level: str) -> Response:
    return wire.json_response({"setting": "monitoring_level", "value": level})


def _marker(namespace: str, dimensions: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([namespace, dimensions])).decode()


def _read_marker(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    wanted = tuple[str, tuple[tuple[str, str], ...]]
    try:
        place = msgspec.convert(strict_loads(base64.urlsafe_b64decode(text)), wanted)
        return place[0], place[1]
    except (ValueError, msgspec.ValidationError, HeliometerError):
        raise Malformed("marker: is not one that this service gave.") from None
