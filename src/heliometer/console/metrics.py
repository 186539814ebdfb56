"""The metrics explorer: charts of stored series, and the same as a table."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from shlex import quote
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from heliometer.console.metric_view import (
    PERIODS,
    RANGES,
    View,
    blank_view,
    duration,
    read_dimensions,
    read_view,
)
from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import HeliometerError
from heliometer.http.answers import made_while_written
from heliometer.identity.model import Permission
from heliometer.metrics.model import NO_DATA
from heliometer.metrics.queries import Query, SeriesStatistics, Statistics
from heliometer.metrics.service import Metrics
from heliometer.metrics.statistics import STATISTICS

DRAWN = 100
"""Most series in one chart."""
WHOLE_S = 366 * 86_400
"""A period that covers any span."""
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What a spreadsheet may take for the beginning of a formula; some fold the wide forms."""
_ESCAPED = re.compile(r"[,\\]")


def section(metrics: Metrics) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages, and what their scripts ask for."""
    pages = MetricPages(metrics)
    read = Permission.READ
    return (
        ("GET", "/metrics", "Metrics explorer", pages.explorer, read),
        ("GET", "/metrics/data", "Data of a chart", pages.data, read),
        ("GET", "/metrics/table.csv", "The same as a table", pages.table, read),
        ("GET", "/metrics/complete", "What may follow in a search", pages.complete, read),
    )


class MetricPages:
    """The explorer, with the data that its script draws."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def explorer(self, request: PageRequest) -> Response:
        caller = request.session.caller
        context: dict[str, Any] = {
            "section": "metrics",
            "ranges": RANGES,
            "periods": [(seconds, duration(seconds)) for seconds in PERIODS],
            "STATISTICS": STATISTICS,
            "namespaces": self._metrics.complete(caller, "", {}, None, ""),
            "summary": None,
            "keys": [],
            "many_series": False,
        }
        try:
            view = read_view(request, self._metrics.now_ms())
        except HeliometerError as error:
            view = blank_view(self._metrics.now_ms())
            return request.wrong(
                "metrics.html", error, view=view, ways=_ways(request, view), **context
            )
        if view.namespace:
            matching = await self._metrics.list_series(
                caller, view.namespace, view.dimensions, None, DRAWN + 1
            )
            context["many_series"] = len(matching) > DRAWN
            context["keys"] = self._metrics.complete(
                caller, view.namespace, view.dimensions, None, ""
            )
            found = await self._metrics.query(caller, _query(_summarised(view)))
            context["summary"] = [(each, _summary(each)) for each in found]
        return request.page("metrics.html", view=view, ways=_ways(request, view), **context)

    async def data(self, request: PageRequest) -> Response:
        view = read_view(request, self._metrics.now_ms())
        found = await self._found(request, view)
        return request.json(
            {
                "start": view.start_ms // 1000,
                "end": view.end_ms // 1000,
                "period": view.period_s,
                "auto": view.auto_text,
                **aligned(found, view),
                "ways": _ways(request, view),
            }
        )

    async def table(self, request: PageRequest) -> Response:
        view = read_view(request, self._metrics.now_ms())
        found = await self._found(request, view)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", view.namespace) or "metrics"
        response = made_while_written(
            _lines(found, view.statistics), found.held_bytes, "text/csv; charset=utf-8"
        )
        response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
        return response

    async def complete(self, request: PageRequest) -> Response:
        return request.json(
            self._metrics.complete(
                request.session.caller,
                request.query.get("ns", ""),
                read_dimensions(request.queries("d"), strict=False),
                request.query.get("key"),
                request.query.get("part", ""),
            )
        )

    async def _found(self, request: PageRequest, view: View) -> Statistics:
        if not view.namespace:
            return Statistics(NO_DATA, [], ())
        return await self._metrics.query(request.session.caller, _query(view))


def _lines(found: Sequence[SeriesStatistics], statistics: Sequence[str]) -> Iterator[bytes]:
    out = io.StringIO()
    writer = csv.writer(out)
    keys = sorted({key for each in found for key, _ in each.series.dimensions})
    writer.writerow(["timestamp", *map(_cell, keys), *statistics])
    for each in found:
        dimensions = dict(each.series.dimensions)
        for row, stamp in enumerate(each.timestamps_s):
            values = [each.statistics[name][row] for name in statistics]
            moment = datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            writer.writerow([moment, *(_cell(dimensions.get(k, "")) for k in keys), *values])
            if out.tell() > 8192:
                yield out.getvalue().encode()
                out.seek(0)
                out.truncate()
    yield out.getvalue().encode()


def _query(view: View) -> Query:
    return Query(
        view.namespace, view.dimensions, view.statistics, view.start_ms, view.end_ms,
        view.period_s, DRAWN,
    )  # fmt: skip


def _summarised(view: View) -> View:
    return replace(view, statistics=("avg", "min", "max", "count"), period_s=WHOLE_S)


def aligned(found: Sequence[SeriesStatistics], view: View) -> dict[str, Any]:
    """Times for all series, with a list of values for each series and statistic."""
    times = sorted({stamp for each in found for stamp in each.timestamps_s})
    place = {stamp: at for at, stamp in enumerate(times)}
    lines: list[dict[str, Any]] = []
    values: list[list[float | None]] = []
    common = _common(found)
    for each in found:
        own = [f"{k}={v}" for k, v in each.series.dimensions if (k, v) not in common]
        for name in view.statistics:
            column: list[float | None] = [None] * len(times)
            for stamp, value in zip(each.timestamps_s, each.statistics[name], strict=True):
                column[place[stamp]] = value
            label = ", ".join(own) or dict(each.series.dimensions).get(
                "metric_name", view.namespace
            )
            if len(view.statistics) > 1:
                label = f"{name} · {label}"
            lines.append({"label": label})
            values.append(column)
    return {"lines": lines, "times": times, "values": values}


def _common(found: Sequence[SeriesStatistics]) -> set[tuple[str, str]]:
    """Dimensions that all series share, which their labels leave out."""
    if not found:
        return set()
    return set.intersection(*(set(each.series.dimensions) for each in found))


def _summary(each: SeriesStatistics) -> dict[str, float]:
    """Statistics of the whole span, which may lie in two periods."""
    columns = each.statistics
    count = sum(columns["count"])
    total = sum(a * n for a, n in zip(columns["avg"], columns["count"], strict=True))
    return {
        "avg": total / count if count else 0.0,
        "min": min(columns["min"]),
        "max": max(columns["max"]),
        "count": int(count),
    }


def _cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _ways(request: PageRequest, view: View) -> list[tuple[str, str]]:
    start = datetime.fromtimestamp(view.start_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    pairs = {
        "namespace": view.namespace or "NAMESPACE",
        "dimensions": ",".join(
            key + ":" + _ESCAPED.sub(r"\\\g<0>", value) for key, value in view.dimensions.items()
        ),
        "statistics": ",".join(view.statistics),
        "period": str(view.period_s),
        "start_time": start,
    }
    if view.fixed:
        end = datetime.fromtimestamp(view.end_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        pairs["end_time"] = end
    query = urlencode({k: v for k, v in pairs.items() if v}, safe=":,")
    words = [quote(pairs["namespace"])]
    words += [f"-d {quote(f'{key}={value}')}" for key, value in view.dimensions.items()]
    when = f"--start {start}" if view.fixed else f"--start {view.range}"
    return [
        (
            "The chart's data",
            f"curl -s {quote(f'{request.call.base_url}/v1.1/metrics?{query}')} \\\n"
            '  -H "X-Auth-Token: $TOKEN"',
        ),
        (
            "… drawn in the terminal",
            f"heliometer metrics query {' '.join(words)} --statistics {','.join(view.statistics)} "
            f"{when} --period {view.period_s} --plot",
        ),
    ]
