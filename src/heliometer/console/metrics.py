"""The metrics explorer: what there is, charted."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from heliometer.console.page_request import Handler, PageRequest
from heliometer.core.errors import HeliometerError, Malformed
from heliometer.identity.model import Permission
from heliometer.metrics.queries import Query, SeriesStatistics
from heliometer.metrics.service import Metrics
from heliometer.metrics.statistics import STATISTICS

RANGES = {
    "15m": 900, "1h": 3600, "3h": 10_800, "12h": 43_200, "24h": 86_400, "7d": 604_800,
    "14d": 1_209_600, "30d": 2_592_000,
}  # fmt: skip
DEFAULT_RANGE = "3h"
PERIODS = (10, 60, 300, 900, 3600, 10_800, 86_400)
POINTS = 500
"""Datapoints of a series that a chart shows, about."""
DRAWN = 100
"""Series in one chart."""
_ESCAPED = re.compile(r"[,\\]")


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at, as the URL says it."""

    namespace: str
    dimensions: Mapping[str, str]
    statistics: tuple[str, ...]
    range: str
    start_ms: int
    end_ms: int
    fixed: bool
    """Whether start and end stand in the URL, rather than a span until now."""
    period_s: int
    auto: bool


def section(metrics: Metrics) -> Sequence[tuple[str, str, str, Handler, Permission]]:
    """The pages."""

    def query(view: View, *, period_s: int = 0) -> Query:
        return Query(
            view.namespace, view.dimensions, view.statistics, view.start_ms, view.end_ms,
            period_s or view.period_s, DRAWN,
        )  # fmt: skip

    async def explorer(visit: PageRequest) -> Response:
        caller = visit.session.caller
        context: dict[str, Any] = {
            "section": "metrics",
            "ranges": RANGES,
            "periods": PERIODS,
            "STATISTICS": STATISTICS,
            "namespaces": metrics.complete(caller, "", {}, None, ""),
            "summary": None,
            "keys": [],
            "many_series": False,
        }
        try:
            view = read_view(visit, metrics.now_ms())
        except HeliometerError as error:
            view = _blank(metrics.now_ms())
            return visit.wrong("metrics.html", error, view=view, ways=_ways(visit, view), **context)
        if view.namespace:
            matching = metrics.list_series(caller, view.namespace, view.dimensions, None, DRAWN + 1)
            context["many_series"] = len(matching) > DRAWN
            context["keys"] = metrics.complete(caller, view.namespace, view.dimensions, None, "")
            whole = query(view, period_s=366 * 86_400)
            whole = Query(
                whole.namespace, whole.dimensions, ("avg", "min", "max", "count"),
                whole.start_ms, whole.end_ms, whole.period_s, DRAWN,
            )  # fmt: skip
            context["summary"] = [
                (each, _whole(each)) for each in await metrics.query(caller, whole)
            ]
        return visit.page("metrics.html", view=view, ways=_ways(visit, view), **context)

    async def data(visit: PageRequest) -> Response:
        view = read_view(visit, metrics.now_ms())
        found = await _found(visit, view)
        return visit.json(
            {
                "start": view.start_ms // 1000,
                "end": view.end_ms // 1000,
                "period": view.period_s,
                **aligned(found, view),
                "ways": _ways(visit, view),
            }
        )

    async def table(visit: PageRequest) -> Response:
        view = read_view(visit, metrics.now_ms())
        found = await _found(visit, view)
        out = io.StringIO()
        writer = csv.writer(out)
        keys = sorted({key for each in found for key, _ in each.series.dimensions})
        writer.writerow(["timestamp", *keys, *view.statistics])
        for each in found:
            dimensions = dict(each.series.dimensions)
            for row, stamp in enumerate(each.timestamps_s):
                values = [each.statistics[name][row] for name in view.statistics]
                moment = datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                writer.writerow([moment, *(_cell(dimensions.get(k, "")) for k in keys), *values])
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", view.namespace) or "metrics"
        return Response(
            out.getvalue(),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
        )

    async def complete(visit: PageRequest) -> Response:
        return visit.json(
            metrics.complete(
                visit.session.caller,
                visit.query.get("ns", ""),
                read_dimensions(visit.queries("d"), strict=False),
                visit.query.get("key"),
                visit.query.get("part", ""),
            )
        )

    async def _found(visit: PageRequest, view: View) -> list[SeriesStatistics]:
        if not view.namespace:
            return []
        return await metrics.query(visit.session.caller, query(view))

    read = Permission.READ
    return (
        ("GET", "/metrics", "Metrics explorer", explorer, read),
        ("GET", "/metrics/data", "Data of a chart", data, read),
        ("GET", "/metrics/table.csv", "The same as a table", table, read),
        ("GET", "/metrics/complete", "What may follow in a search", complete, read),
    )


def read_view(visit: PageRequest, now_ms: int) -> View:
    """The view that the URL names. Raises MALFORMED."""
    given = visit.query
    wanted = [name for name in visit.queries("stat") if name in STATISTICS] or ["avg"]
    span = given.get("range", DEFAULT_RANGE)
    if span not in RANGES:
        raise Malformed(f"range: {span[:20]!r} is none.", details=f"One of {', '.join(RANGES)}.")
    start, end = given.get("start", ""), given.get("end", "")
    fixed = bool(start and end)
    end_ms = _seconds("end", end) * 1000 if fixed else now_ms + 1
    start_ms = _seconds("start", start) * 1000 if fixed else end_ms - RANGES[span] * 1000
    if start_ms >= end_ms:
        raise Malformed("start: must be before the end.")
    period = given.get("period", "")
    if period and not (period.isdecimal() and 0 < int(period[:9]) <= 366 * 86_400):
        raise Malformed("period: must be a number of seconds.")
    return View(
        given.get("ns", "").strip(),
        read_dimensions(visit.queries("d")),
        tuple(dict.fromkeys(wanted)),
        span,
        start_ms,
        end_ms,
        fixed,
        int(period[:9]) if period else fitting_period(start_ms, end_ms),
        not period,
    )


def fitting_period(start_ms: int, end_ms: int) -> int:
    """The period, in seconds, that a chart of this span shows well."""
    wanted = (end_ms - start_ms) / 1000 / POINTS
    return next((period for period in PERIODS if period >= wanted), PERIODS[-1])


def read_dimensions(given: Sequence[str], *, strict: bool = True) -> dict[str, str]:
    """Pairs ``key:value``. Raises MALFORMED for others where that is ``strict``."""
    dimensions: dict[str, str] = {}
    for text in given:
        key, colon, value = text.strip().partition(":")
        if colon and key and value:
            dimensions[key.strip()] = value
        elif text.strip() and strict:
            raise Malformed(f"d: {text[:60]!r} is not key:value.", details="Such as host:web1.")
    return dimensions


def aligned(found: Sequence[SeriesStatistics], view: View) -> dict[str, Any]:
    """One list of times for all series, and for each series and statistic a list of values."""
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
    """Pairs that all series have: naming them on each would hide what tells them apart."""
    if not found:
        return set()
    return set.intersection(*(set(each.series.dimensions) for each in found))


def _whole(each: SeriesStatistics) -> dict[str, float]:
    columns = each.statistics
    count = sum(columns["count"])
    total = sum(a * n for a, n in zip(columns["avg"], columns["count"], strict=True))
    return {
        "avg": total / count if count else 0.0,
        "min": min(columns["min"]),
        "max": max(columns["max"]),
        "count": int(count),
    }


def _blank(now_ms: int) -> View:
    return View("", {}, ("avg",), DEFAULT_RANGE, now_ms - 10_800_000, now_ms, False, 60, True)


def _seconds(name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,11}", text):
        raise Malformed(f"{name}: must be Unix time in seconds.")
    return int(text)


def _cell(text: str) -> str:
    """A text as a spreadsheet must not take it for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def _ways(visit: PageRequest, view: View) -> list[tuple[str, str]]:
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
            f"curl -s {quote(f'{visit.call.base_url}/v1.1/metrics?{query}')} \\\n"
            '  -H "X-Auth-Token: $TOKEN"',
        ),
        (
            "… drawn in the terminal",
            f"heliometer metrics query {' '.join(words)} --statistics {','.join(view.statistics)} "
            f"{when} --period {view.period_s} --plot",
        ),
    ]
