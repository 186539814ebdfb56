"""Asking for series and statistics (v1.1 §4.4.7.3), and what to print of the answer."""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import click
import msgspec

from heliometer.cli.access import Access
from heliometer.cli.errors import CommandError
from heliometer.cli.table import label, table
from heliometer.cli.time_formats import iso, parse_moment, show
from heliometer.metrics.statistics import STATISTICS

PAGE = 1000


class SeriesStatistics(msgspec.Struct):
    """Statistics of one series, as the API answers them."""

    dimensions: dict[str, str]
    datapoints: dict[str, list[int | float]]


@dataclass(frozen=True, slots=True)
class StatisticsQuery:
    """The options of ``heliometer metrics query``, as they were given."""

    namespace: str
    dimensions: Mapping[str, str]
    statistics: str
    """Names, separated by commas."""
    start: str
    end: str
    period: int
    """Seconds that each datapoint covers."""


def query_statistics(access: Access, query: StatisticsQuery, form: str) -> None:
    """Query and print as ``form`` says: table, plot, json or csv. Raises CommandError."""
    names = [name.strip().lower() for name in query.statistics.split(",") if name.strip()]
    wrong = [name for name in names if name not in STATISTICS]
    if wrong or not names:
        _usage(
            f"--statistics: {', '.join(wrong) or 'nothing'} is not a statistic; "
            f"choose from {', '.join(STATISTICS)}"
        )
    now = datetime.now(UTC)
    try:
        begin, until = parse_moment(query.start, now), parse_moment(query.end, now)
    except ValueError as error:
        _usage(str(error))
    if begin >= until:
        _usage(f"--start {iso(begin)} is not before --end {iso(until)}")
    asked = {
        "namespace": query.namespace,
        "statistics": ",".join(dict.fromkeys(names)),
        "start_time": iso(begin),
        "end_time": iso(until),
        "period": str(query.period),
    }
    if query.dimensions:
        asked["dimensions"] = escape(query.dimensions)
    with access.connect() as client:
        answer = client.get("/metrics", asked)
    if form == "json":
        click.echo(_json(answer))
        return
    try:
        found = msgspec.convert(answer, list[SeriesStatistics])
    except msgspec.ValidationError as error:
        raise CommandError(f"the server's answer is not what v1.1 documents: {error}") from error
    if not found:
        click.echo(f"no measurements between {iso(begin)} and {iso(until)} match", err=True)
    elif form == "csv":
        _print_csv(found, names)
    elif form == "plot":
        from heliometer.cli.plot import draw

        click.echo(draw(query.namespace, found, names, query.period))
    else:
        _print_tables(query.namespace, found, names)


def list_series(
    access: Access,
    namespace: str | None,
    dimensions: Mapping[str, str],
    limit: int,
    as_json: bool,
) -> None:
    """Print up to ``limit`` series, page by page of the server's. Raises CommandError."""
    found: list[dict[str, Any]] = []
    asked = {"limit": str(min(limit, PAGE))}
    if namespace:
        asked["namespace"] = namespace
    if dimensions:
        asked["dimensions"] = escape(dimensions)
    with access.connect() as client:
        while True:
            page = client.get("/metrics/series", asked)
            found += page["series"]
            marker = _next_marker(page)
            if marker is None or len(found) >= limit:
                break
            asked["marker"] = marker
    more = marker is not None or len(found) > limit
    found = found[:limit]
    if as_json:
        click.echo(_json(found))
    elif found:
        rows = [[each["namespace"], label(each["dimensions"])] for each in found]
        click.echo(table(["NAMESPACE", "DIMENSIONS"], rows, "<<"))
    else:
        click.echo("no series match", err=True)
    if more:
        click.echo(f"only the first {limit} series are shown; use --limit for more", err=True)


def escape(dimensions: Mapping[str, str]) -> str:
    """Pairs as the query parameter takes them; commas, colons and backslashes are escaped."""

    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")

    return ",".join(f"{key}:{escaped(value)}" for key, value in dimensions.items())


def _next_marker(page: Mapping[str, Any]) -> str | None:
    # Only the marker is taken from the link: the token must not go wherever a reply says.
    for link in page.get("links", []):
        if link.get("rel") == "next":
            markers = parse_qs(urlsplit(str(link["href"])).query).get("marker")
            return markers[0] if markers else None
    return None


def _print_tables(namespace: str, found: Sequence[SeriesStatistics], names: Sequence[str]) -> None:
    for index, series in enumerate(found):
        if index:
            click.echo()
        click.echo(f"{namespace}  {label(series.dimensions)}".rstrip())
        times = series.datapoints["timestamp"]
        whole_minutes = not any(time % 60 for time in times)
        rows = [
            [
                show(time, seconds=not whole_minutes),
                *[number(series.datapoints[name][i]) for name in names],
            ]
            for i, time in enumerate(times)
        ]
        click.echo(table(["TIME (UTC)", *names], rows, "<" + ">" * len(names)))


def _print_csv(found: Sequence[SeriesStatistics], names: Sequence[str]) -> None:
    keys = sorted({key for series in found for key in series.dimensions})
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*keys, "timestamp", *names])
    for series in found:
        cells = [series.dimensions.get(key, "") for key in keys]
        for i, time in enumerate(series.datapoints["timestamp"]):
            moment = iso(datetime.fromtimestamp(time, UTC))
            writer.writerow([*cells, moment, *[repr(series.datapoints[n][i]) for n in names]])


def number(value: float) -> str:
    """A number in at most seven significant digits, whole ones in full."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.7g}"


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _usage(message: str) -> NoReturn:
    raise click.UsageError(message, click.get_current_context())
