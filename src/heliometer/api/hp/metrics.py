"""Metrics of v1.1 (§4.4.7); beyond the document: reports of agents, and the list of series."""

import base64
import hashlib
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response

from heliometer.api.hp import wire
from heliometer.api.hp.metrics_json import read_inline, read_metrics
from heliometer.core.errors import HeliometerError, Invalid
from heliometer.http import paging
from heliometer.http.answers import json_list
from heliometer.http.json import strict_loads
from heliometer.http.operation import Call, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.columns import Columns
from heliometer.metrics.queries import Query, SeriesStatistics
from heliometer.metrics.receipts import Receipt
from heliometer.metrics.reports import Reports
from heliometer.metrics.series_index import ProjectSeries
from heliometer.metrics.service import Metrics
from heliometer.metrics.statistics import STATISTICS

DEFAULT_PERIOD_S = 300
LIST_LIMIT = 1000
"""Most series in one answer."""


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


class ListedSeries(msgspec.Struct):
    """A series by its namespace and dimensions."""

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
    """Id or name; empty: the agent's own project."""


class Report(msgspec.Struct):
    """What an agent measured in one round."""

    reports: list[ProjectReport]


class ReportOutcome(msgspec.Struct):
    """The interval in seconds of each project, and the reports that were refused."""

    intervals: dict[str, int]
    refused: list[dict[str, str]]


class MetricOperations:
    """Stores and queries measurements, and lists series."""

    def __init__(self, metrics: Metrics, reports: Reports) -> None:
        self._metrics = metrics
        self._reports = reports

    def operations(self) -> tuple[Operation, ...]:
        """The operations of v1.1."""
        read, post = Permission.READ, Permission.POST_METRICS
        beyond = "beyond the documents"
        return (
            Operation(
                "POST", "/metrics", "Create a new metric", "v1.1 §4.4.7.1", self.create, post, 204,
                (409, 413, 415, 422, 429, 503), _POSTING, Metric, None, _EXAMPLE,
            ),
            Operation(
                "POST", "/metrics/aggregate", "Create new aggregated metrics", "v1.1 §4.4.7.2",
                self.create, post, 204, (409, 413, 415, 422, 429, 503), _POSTING, list[Metric],
                None, [_EXAMPLE],
            ),
            Operation(
                "POST", "/metrics/reports", "Report for several projects at once", beyond,
                self.report, post, 200, (403, 409, 413, 415, 422), _POSTING[:1],
                reply=ReportOutcome,
            ),
            Operation(
                "GET", "/metrics", "Get metric datapoints", "v1.1 §4.4.7.3", self.query, read,
                parameters=_QUERY, reply=list[SeriesDatapoints],
            ),
            Operation(
                "GET", "/metrics/series", "List series", beyond, self.list_series, read,
                parameters=_LIST, reply=SeriesPage,
            ),
        )  # fmt: skip

    async def create(self, call: Call) -> Response:
        wire.require_json_body(call)
        headers = call.request.headers
        project = await self._metrics.target(call.caller, headers.get("x-tenant-id"))
        body = await call.body()
        now_ms = self._metrics.now_ms()
        reserved = Permission.POST_RESERVED in call.caller.permissions
        columns = read_inline(body, project, now_ms, reserved)
        if columns is None:
            columns = await call.decode(
                body,
                lambda: read_metrics(body, project, now_ms, reserved_allowed=reserved),
            )
        receipt = _receipt(call, body, now_ms, project.project_id)
        await self._metrics.post(project, columns, receipt)
        return Response(status_code=204)

    async def report(self, call: Call) -> Response:
        wire.require_json_body(call)
        body = await call.body()
        now_ms = self._metrics.now_ms()
        reserved = Permission.POST_RESERVED in call.caller.permissions

        async def decode(part: bytes, project: ProjectSeries) -> Columns:
            return await call.decode(
                part, lambda: read_metrics(part, project, now_ms, reserved_allowed=reserved)
            )

        readers = {
            part.project: partial(decode, bytes(part.metrics))
            for part in await call.decode(body, lambda: _read_report(body))
        }
        outcome = await self._reports.take(call.caller, readers, _receipt(call, body, now_ms))
        return wire.json_response(
            {
                "intervals": outcome.intervals_s,
                "refused": [
                    {"project": project, "message": message}
                    for project, message in outcome.refused.items()
                ],
            }
        )

    async def query(self, call: Call) -> Response:
        query = call.request.query_params
        namespace = wire.required(query, "namespace", "Such as namespace=user_namespace.")
        statistics = wire.required(query, "statistics", f"Any of {', '.join(STATISTICS)}.")
        start = wire.required(query, "start_time", "Such as start_time=2013-11-01T12:00Z.")
        end = wire.only(query, "end_time")
        period = wire.only(query, "period") or str(DEFAULT_PERIOD_S)
        found = await self._metrics.query(
            call.caller,
            Query(
                namespace,
                wire.dimensions(query.getlist("dimensions")),
                list(dict.fromkeys(s.strip().lower() for s in statistics.split(","))),
                wire.time_ms("start_time", start),
                wire.time_ms("end_time", end) if end else self._metrics.now_ms() + 1,
                wire.whole_number("period", period, 1, 366 * 86_400),
            ),
        )
        return json_list(found, _datapoints, found.held_bytes, wire.CONTENT_TYPE)

    async def list_series(self, call: Call) -> Response:
        query = call.request.query_params
        marker, limit = wire.page(call, LIST_LIMIT)
        limit = limit or 100
        found = await self._metrics.list_series(
            call.caller,
            wire.only(query, "namespace"),
            wire.dimensions(query.getlist("dimensions")),
            _read_marker(marker) if marker else None,
            limit + 1,
        )
        shown, last = paging.cut(found, limit)
        following = _marker(last.namespace, last.dimensions) if last else None
        return wire.json_response(
            {
                "series": [
                    {"namespace": s.namespace, "dimensions": dict(s.dimensions)} for s in shown
                ],
                "links": wire.next_link(call, "/v1.1/metrics/series", following),
            }
        )


def _datapoints(each: SeriesStatistics) -> dict[str, Any]:
    return {
        "dimensions": dict(each.series.dimensions),
        "datapoints": {"timestamp": each.timestamps_s, **each.statistics},
    }


def _receipt(call: Call, body: bytes, now_ms: int, project_id: str = "") -> Receipt | None:
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return None
    digest = hashlib.blake2b(body, digest_size=16).digest()
    return Receipt(project_id or call.caller.project_id, key, digest, now_ms)


def _read_report(body: bytes) -> list[ProjectReport]:
    strict_loads(body)  # for its messages, and for duplicate keys
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


def _marker(namespace: str, dimensions: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([namespace, dimensions])).decode()


def _read_marker(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    wanted = tuple[str, tuple[tuple[str, str], ...]]
    try:
        place = msgspec.convert(strict_loads(base64.urlsafe_b64decode(text)), wanted)
        return place[0], place[1]
    except (ValueError, msgspec.ValidationError, HeliometerError):
        raise wire.unknown_marker() from None


_EXAMPLE = {
    "namespace": "user_namespace",
    "dimensions": {"metric_name": "user_metric", "instance_id": "392633"},
    "value": 123.0,
}
_POSTING = (
    Parameter(
        "Idempotency-Key",
        "Names this post, so that sending it again within 24 hours stores nothing twice.",
        where="header",
    ),
    Parameter(
        "X-Tenant-Id", "Project that an agent reports for; its own without.", where="header"
    ),
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
    wire.MARKER,
)  # fmt: skip
