"""``heliometer migrate``: copy the embedded data to PostgreSQL and ClickHouse."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heliometer.cli.errors import FAILED, CommandError
from heliometer.cli.options import load_settings, settings_options
from heliometer.cli.table import table

if TYPE_CHECKING:
    from heliometer.migrate.comparison import Comparison
    from heliometer.server.migrate import Result

EVERY_S = 10.0
"""How often progress is shown where there is no terminal."""
MOST_ROWS = 40
"""Lines of a table; differences come first."""


@click.command(short_help="Move the embedded data to PostgreSQL and ClickHouse.")
@click.option(
    "--to",
    "to",
    required=True,
    metavar="CONFIG",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file of the new service; its resources.url and metrics.url are the targets.",
)
@settings_options
@click.option("--verify", is_flag=True, help="Copy nothing; read both sides whole and compare.")
@click.option(
    "--force",
    is_flag=True,
    help="Accept targets that hold other data: their resources are replaced, measurements kept.",
)
def migrate(to: Path, data_dir: str | None, config: Path | None, verify: bool, force: bool) -> int:
    """Copy resources and measurements from the data directory to the engines that CONFIG names.

    The server may keep running; its state at the start is what is copied. Run the command again as
    often as you like: it resumes where it was interrupted and copies what has arrived since,
    nothing twice. To switch over, stop the server, run it one last time, which is quick, and then
    start the new service, not before.

    At the end both sides are compared by row counts and checksums: of each table, and of each
    series on each day. The exit code is 0 only if everything is equal. Settings from the
    environment apply to the data directory only; CONFIG is read on its own.

    \b
    Examples:
      heliometer migrate --to cluster.toml
      heliometer migrate --to cluster.toml --data-dir /var/lib/heliometer
      heliometer migrate --to cluster.toml --verify
    """
    from heliometer.config import load
    from heliometer.server.migrate import migration, plan

    source = load_settings(config, data_dir)
    target = load(to, environment={})
    if not source.data_dir.is_dir():
        raise CommandError(f"no data in {source.data_dir}; use --data-dir or --config")
    what = plan(source, target)
    started = time.monotonic()
    with migration(source, target, what) as run:
        running = run.take_snapshot()
        at = time.strftime("%F %T", time.gmtime())
        with _progress("comparing" if verify else "copying") as show:
            result = run.run(show, copy=not verify, force=force)
    for line in _report(result):
        click.echo(line)
    for note in what.notes:
        click.echo(f"note: {note}")
    if result.measurements is not None and not verify:
        seconds = time.monotonic() - started
        copied = result.measurements.copied
        click.echo(f"copied {copied:,} measurements in {seconds:.1f} s ({copied / seconds:,.0f}/s)")
    if not result.equal:
        click.echo("heliometer: source and target differ, see above", err=True)
        return FAILED
    click.echo(f"equal: the target has what {source.data_dir} had at {at} UTC")
    if not verify:
        click.echo(_next(to, running=running))
    return 0


def _next(to: Path, *, running: bool) -> str:
    if running:
        return (
            "the server here keeps receiving measurements: to switch over, stop it, run this "
            f"again, and start the new service with --config {to}"
        )
    return f"no server runs here: start the new service with --config {to}"


# -- what is shown ------------------------------------------------------------------------------


class _Lines:
    """Progress where there is no terminal: a line now and then."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._started = self._printed_at = time.monotonic()
        self._rows = 0

    def __call__(self, what: str, rows: int, total: int) -> None:
        now = time.monotonic()
        if total:
            self._rows += rows
        if now - self._printed_at < EVERY_S:
            return
        self._printed_at = now
        share = f" of {total:,} ({self._rows / total:.0%})" if total else ""
        rate = self._rows / (now - self._started)
        click.echo(f"{self._verb} {what}: {self._rows:,}{share}, {rate:,.0f}/s", err=True)


class _Bar:
    """Progress on a terminal: a bar that counts measurements."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._bar: Any = None

    def __call__(self, what: str, rows: int, total: int) -> None:
        if not total:
            return  # resources take little time
        if self._bar is None:
            self._bar = click.progressbar(
                length=total, label=self._verb, file=sys.stderr, show_pos=True,
                item_show_func=lambda day: day,
            )  # fmt: skip
            self._bar.__enter__()
        self._bar.update(rows, what)

    def finish(self) -> None:
        """End the bar's line, if it was drawn."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)


@contextmanager
def _progress(verb: str) -> "Iterator[_Lines | _Bar]":
    if not sys.stderr.isatty():
        yield _Lines(verb)
        return
    bar = _Bar(verb)
    try:
        yield bar
    finally:
        bar.finish()


def _report(result: "Result") -> Iterator[str]:
    if result.tables:
        rows = [
            (t.name, f"{t.here.rows:,}", f"{t.there.rows:,}", _verdict(t.here == t.there))
            for t in result.tables
        ]
        yield table(("resources", "source", "target", ""), rows, "<>><")
        yield ""
    if result.measurements is not None:
        yield from _measurements(result.measurements)
        yield ""
    for damaged in result.damaged:
        yield f"skipped: partition {damaged}"


def _measurements(found: "Comparison") -> Iterator[str]:
    groups = found.here.keys() | found.there.keys() | found.different.keys()
    ordered = sorted(groups, key=lambda g: (g not in found.different, g))
    rows = [
        (
            project or "?", namespace or "?", f"{found.here[project, namespace]:,}",
            f"{found.there[project, namespace]:,}",
            _different(found.different[project, namespace]),
        )
        for project, namespace in ordered[:MOST_ROWS]
    ]  # fmt: skip
    total = sum(found.different.values())
    rows.append(
        ("all", "", f"{found.here.total():,}", f"{found.there.total():,}", _different(total))
    )
    yield table(("project", "namespace", "source", "target", ""), rows, "<<>><")
    if len(ordered) > MOST_ROWS:
        yield f"and {len(ordered) - MOST_ROWS} more projects and namespaces"
    believed = found.here.total() - found.read
    if believed:
        yield (
            f"{believed:,} of them are of days that an earlier run found equal and that have not "
            "changed since; --verify reads them again"
        )
    for number, what in (
        (found.missing_series, f"of {found.series:,} series are missing in the target"),
        (found.unknown, "measurements of the source belong to no series and are not copied"),
        (
            found.expired_days,
            "days of the target are older than the source's retention; left alone",
        ),
    ):
        if number:
            yield f"{number:,} {what}"


def _different(number: int) -> str:
    return f"{number:,} series-days differ" if number else "equal"


def _verdict(equal: bool) -> str:
    return "equal" if equal else "differ"
