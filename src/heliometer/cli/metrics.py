"""``heliometer metrics``: push, list and query measurements."""

from dataclasses import dataclass
from typing import Any

import click

from heliometer.cli.access import ENVIRONMENT, Access, client_options
from heliometer.cli.options import dimension_option, unique

STATISTICS = "avg,sum,min,max,count"


@dataclass(frozen=True, slots=True)
class _PushOptions:
    """The options of ``heliometer metrics push``, by the names of their parameters."""

    namespace: str | None
    dimensions: tuple[tuple[str, str], ...]
    value: float | None
    format_: str | None
    timestamp_column: str
    value_column: str
    shift_to_now: bool
    skip_old: bool
    batch: int
    dry_run: bool


@click.group(short_help="Push, list and query measurements.")
def metrics() -> None:
    """Push, list and query measurements, at any server.

    \b
    Examples:
      heliometer metrics push --namespace shop -d metric_name=orders --value 12
      heliometer metrics list
      heliometer metrics query shop -d metric_name=orders --start 24h --plot
    """


@metrics.command(epilog=ENVIRONMENT)
@client_options
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("--namespace", metavar="NAME", help="Namespace, unless the file names one.")
@dimension_option
@click.option("--value", type=float, help="Push one measurement with this value, timestamped now.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl"]),
    help="Format of the files.  [default: by their suffixes]",
)
@click.option("--timestamp-column", default="timestamp", show_default=True, metavar="NAME")
@click.option("--value-column", default="value", show_default=True, metavar="NAME")
@click.option(
    "--shift-to-now",
    is_flag=True,
    help="Shift each file's timestamps, by whole minutes, so that it ends now.",
)
@click.option("--skip-old", is_flag=True, help="Skip measurements older than two weeks.")
@click.option(
    "--batch",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Measurements per request.",
)
@click.option("--dry-run", is_flag=True, help="Check the files and send nothing.")
def push(access: Access, files: tuple[str, ...], **given: Any) -> None:
    """Push the measurements of FILEs (- is standard input), or one given with --value.

    CSV has a header line: a column "timestamp" (Unix seconds or ISO 8601, UTC without a zone), a
    column "value", and every other column is a dimension, except "namespace". The dimension
    metric_name defaults to the file's name. Each JSON line holds one metric in the form that the
    API takes, with "value" or "time_values". Files may be compressed with gzip.

    Every file is checked as a whole before anything is sent. Values in a file take precedence over
    --namespace and --dimension.

    \b
    Examples:
      heliometer metrics push --namespace shop -d metric_name=orders --value 12
      heliometer metrics push --namespace aws.ec2 --shift-to-now cpu_utilization.csv
      zcat export.jsonl.gz | heliometer metrics push --format jsonl -
    """
    context = click.get_current_context()
    options = _PushOptions(**given)
    dimensions = unique(options.dimensions)
    if (options.value is None) == (not files):
        raise click.UsageError("give FILEs to push, or --value for one measurement", context)
    if options.value is not None:
        if not options.namespace:
            raise click.UsageError("--value needs --namespace", context)
        metric = {
            "namespace": options.namespace, "dimensions": dimensions, "value": options.value,
        }  # fmt: skip
        _push_one(access, metric, options.dry_run)
        return
    if files.count("-") > 1:
        raise click.UsageError("standard input can be read only once", context)
    from heliometer.cli.file_rows import Filling
    from heliometer.cli.push import push_files

    filling = Filling(
        options.namespace or "", dimensions, options.timestamp_column, options.value_column
    )
    push_files(
        access, files, options.format_, filling,
        shift=options.shift_to_now, skip_old=options.skip_old,
        batch=options.batch, dry_run=options.dry_run,
    )  # fmt: skip


def _push_one(access: Access, metric: dict[str, Any], dry_run: bool) -> None:
    import msgspec

    from heliometer.metrics.validation import check_dimension, check_namespace, check_value

    check_namespace(metric["namespace"])
    for key, text in metric["dimensions"].items():
        check_dimension(key, text)
    check_value(metric["value"])
    if dry_run:
        click.echo("would push 1 measurement")
        return
    with access.connect() as client:
        client.post("/metrics", msgspec.json.encode(metric))
    click.echo("pushed 1 measurement")


@metrics.command("list", epilog=ENVIRONMENT)
@client_options
@click.option("--namespace", metavar="NAME", help="Only series of this namespace.")
@dimension_option
@click.option(
    "--limit", type=click.IntRange(1), default=1000, show_default=True, help="Series to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(
    access: Access,
    namespace: str | None,
    dimensions: tuple[tuple[str, str], ...],
    limit: int,
    as_json: bool,
) -> None:
    """List the series that have measurements.

    \b
    Examples:
      heliometer metrics list
      heliometer metrics list --namespace hpcs.compute -d metric_name=disk_read_bytes
    """
    from heliometer.cli.query import list_series

    list_series(access, namespace, unique(dimensions), limit, as_json)


@metrics.command(epilog=ENVIRONMENT)
@client_options
@click.argument("namespace")
@dimension_option
@click.option(
    "--statistics",
    default="avg",
    show_default=True,
    metavar="NAME,…",
    help=f"One or more of {STATISTICS}.",
)
@click.option(
    "--start", default="1h", show_default=True, metavar="TIME", help="Start of the range."
)
@click.option("--end", default="now", show_default=True, metavar="TIME", help="End of the range.")
@click.option(
    "--period",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Seconds that each datapoint covers.",
)
@click.option("--plot", "form", flag_value="plot", help="Draw a chart.")
@click.option("--json", "form", flag_value="json", help="Print the API's response.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
def query(
    access: Access,
    namespace: str,
    dimensions: tuple[tuple[str, str], ...],
    statistics: str,
    start: str,
    end: str,
    period: int,
    form: str | None,
) -> None:
    """Show statistics of every series of NAMESPACE that has at least the given dimensions.

    A TIME is how long ago (30m, 24h, 14d), now, Unix seconds, or an ISO 8601 time, in UTC unless
    it has a zone.

    \b
    Examples:
      heliometer metrics query hpcs.compute -d metric_name=cpu_percent
      heliometer metrics query shop --statistics avg,max --start 14d --period 3600 --plot
      heliometer metrics query shop --start 2026-11-20T12:00Z --end 2026-11-20T13:00Z --csv
    """
    from heliometer.cli.query import StatisticsQuery, query_statistics

    query = StatisticsQuery(namespace, unique(dimensions), statistics, start, end, period)
    query_statistics(access, query, form or "table")
