"""Dry runs: an expression on history, on the server or on a file."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from heliometer.cli.access import Access
from heliometer.cli.errors import CommandError
from heliometer.cli.query import number
from heliometer.cli.resources import send, show_json, time_of
from heliometer.cli.time_formats import iso, parse_moment

POINTS = 1500
"""Points of one line in a plot; more are gathered, and their extremes kept."""


@dataclass(frozen=True, slots=True)
class _Line:
    dimensions: Mapping[str, str]
    datapoints: Mapping[str, Sequence[float]]


def on_server(access: Access, expression: str, since: str, until: str) -> dict[str, Any]:
    """The server's dry run over what it stores."""
    now = datetime.now(UTC)
    try:
        begin, end = parse_moment(since, now), parse_moment(until, now)
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
    wanted = {
        "expression": expression, "start_time": iso(begin), "end_time": iso(end), "values": True,
    }  # fmt: skip
    with access.connect() as client:
        return dict(send(client, "POST", "/alarms/dry-run", wanted)["dry_run"])


def on_file(expression: str, file: str, timestamp_column: str, value_column: str) -> dict[str, Any]:
    """The same engine over the measurements of a file, in this process."""
    import numpy as np

    from heliometer.alarms.dry_run import dry_run
    from heliometer.alarms.engine.model import Rules
    from heliometer.alarms.expression import parse, subexpressions
    from heliometer.api.hp.alarm_documents import dry_run_document
    from heliometer.cli.file_rows import Fault, Filling
    from heliometer.cli.input_files import open_source
    from heliometer.metrics.model import Batch, Series

    tree = parse(expression)
    metrics = {part.metric for part in subexpressions(tree)}
    if len(metrics) != 1:
        raise CommandError("with --file the expression must be about one metric")
    metric = metrics.pop()
    source = open_source(file, None)
    filling = Filling(
        metric.namespace, dict(metric.dimensions), timestamp_column, value_column,
        int(time.time() * 1000),
    )  # fmt: skip
    stamps: list[int] = []
    values: list[float] = []
    for _, row in source.read(filling, lambda _: None):
        if isinstance(row, Fault):
            raise CommandError(f"{source.name}: line {row.line}: {row.reason}")
        stamps.append(row.timestamp_ms)
        values.append(row.value)
    if not stamps:
        raise CommandError(f"{source.name} has no measurements")
    batch = Batch(np.ones(len(stamps), np.int64), np.array(stamps, np.int64), np.array(values))
    series = Series(1, "", metric.namespace, metric.dimensions)
    start, end = min(stamps), max(stamps) + 60_000
    shown = sys.stderr.isatty()
    with click.progressbar(length=1000, label="dry run", file=sys.stderr, hidden=not shown) as bar:
        done = [0]

        def progress(part: float) -> None:
            bar.update(int(part * 1000) - done[0])
            done[0] = int(part * 1000)

        found = dry_run(tree, batch, [series], start, end, Rules(), progress)
    return dry_run_document(found, values=True)


def show(expression: str, document: dict[str, Any], *, plot: bool, as_json: bool) -> None:
    """Print what the alarm would have done."""
    if as_json:
        show_json(document)
        return
    if plot:
        _plot(expression, document)
    for each in document["transitions"]:
        values = ", ".join(_value(f) for f in each["reason"])
        arrow = f"{each['old_state']} -> {each['new_state']}"
        click.echo(f"{time_of(each['at'])}  {arrow:<24}  {values}")
    if document["transitions_left_out"]:
        click.echo(f"… and {document['transitions_left_out']} more")
    if not document["transitions"]:
        click.echo("it would have stayed UNDETERMINED: is there any such metric in that time?")
    length = (
        datetime.fromisoformat(document["end_time"])
        - datetime.fromisoformat(document["start_time"])
    ).total_seconds()
    part = document["seconds_in_alarm"] / length if length else 0.0
    count = document["alarms"]
    click.echo(
        f"{count} {'alarm' if count == 1 else 'alarms'} from {time_of(document['start_time'])} to "
        f"{time_of(document['end_time'])}; in alarm for "
        f"{_duration(document['seconds_in_alarm'])} ({part:.2%})"
    )


def _value(finding: Mapping[str, Any]) -> str:
    value = finding["windows"][-1]["value"]
    shown = "no data" if value is None else number(value)
    return f"{finding['function']} {shown} {finding['operator']} {number(finding['threshold'])}"


def _plot(expression: str, document: Mapping[str, Any]) -> None:
    import shutil

    from heliometer.alarms.expression import parse, subexpressions
    from heliometer.cli.plot import MARGIN, draw

    columns = shutil.get_terminal_size((80, 24)).columns
    for part, values in zip(subexpressions(parse(expression)), document["values"], strict=True):
        above = part.operator in (">", ">=")
        times, kept = _thinned(document["minutes"], values, above=above)
        if not times:
            click.echo(f"{part}: no measurements")
            continue
        period = max(60, (times[-1] - times[0]) // max(1, len(times) - 1) // 60 * 60)
        line = _Line(
            {}, {"timestamp": times, "value": kept, "threshold": [part.threshold] * len(times)}
        )
        click.echo(draw(str(part), [line], ["value", "threshold"], max(period, part.period_s)))
        click.echo(_bar(document, times[0], times[-1], max(columns - MARGIN, 20)))


def _thinned(
    minutes: Sequence[int], values: Sequence[float | None], *, above: bool
) -> tuple[list[int], list[float]]:
    """At most POINTS of the known values: of each stretch the one nearest to an alarm."""
    known = [(t, v) for t, v in zip(minutes, values, strict=True) if v is not None]
    size = -(-len(known) // POINTS) if known else 1
    best = max if above else min
    kept = [best(known[i : i + size], key=lambda p: p[1]) for i in range(0, len(known), size)]
    return [t for t, _ in kept], [v for _, v in kept]


def _bar(document: Mapping[str, Any], first: int, last: int, width: int) -> str:
    """A line as wide as the plot that shows when the alarm was on."""
    cells = [" "] * width
    span = max(1, last - first)
    for each in document["spans"]:
        start, end = (
            (datetime.fromisoformat(each[edge]).timestamp() - first) / span * (width - 1)
            for edge in ("start", "end")
        )
        for i in range(max(0, int(start)), min(width - 1, int(end)) + 1):
            cells[i] = "█"
    text = "".join(cells)
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        text = text.replace("█", "#")
    return f" {text}  in alarm"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, rest = divmod(minutes, 1440)
    hours, minutes = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 min"
