"""``heliometer migrate``: the embedded data to the engines that others run."""

import fcntl
import os
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
    from heliometer.config import Settings
    from heliometer.migrate.measurements import Compared
    from heliometer.migrate.run import Moved, Plan

FOLDER = "moving"
EVERY_S = 10.0
"""How often progress is told where there is no terminal."""
MOST_ROWS = 40
"""Lines of a table; what is not equal comes first."""


@click.command(short_help="Move the embedded data to PostgreSQL and ClickHouse.")
@click.option(
    "--to",
    "to",
    required=True,
    metavar="CONFIG",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file of the new service, whose resources.url and metrics.url say where to.",
)
@settings_options
@click.option("--verify", is_flag=True, help="Copy nothing; read both sides whole and compare.")
@click.option(
    "--force",
    is_flag=True,
    help="Accept targets that hold other data: resources there are replaced, measurements stay.",
)
def migrate(to: Path, data_dir: str | None, config: Path | None, verify: bool, force: bool) -> int:
    """Copy resources and measurements from the data directory to the engines that CONFIG names.

    The server may run meanwhile and goes on as before; what is copied is its state at the start.
    Run it again, as often as you like: it goes on where it was interrupted and copies what has
    come since, nothing twice. For the move itself, stop the server, run it once more, which takes
    little time, and start the new service; start that not before.

    At the end both sides are compared, by the number of rows and a checksum of each table, and of
    each series on each day. The exit code is 0 only if all is equal. The environment's settings
    are those of the data directory; CONFIG is read alone.

    \b
    Examples:
      heliometer migrate --to cluster.toml
      heliometer migrate --to cluster.toml --data-dir /var/lib/heliometer
      heliometer migrate --to cluster.toml --verify
    """
    import asyncio

    from heliometer.config import load
    from heliometer.migrate import run as moving
    from heliometer.storage.errors import StoreUnusable

    source = load_settings(config, data_dir)
    target = load(to, environment={})
    if not source.data_dir.is_dir():
        raise CommandError(f"there is no data in {source.data_dir}; say --data-dir or --config")
    plan = moving.plan(source, target)
    started = time.monotonic()
    with _alone(source.data_dir / FOLDER) as folder:
        snapshot = folder / "snapshot"
        moving.clear(snapshot)
        try:
            served = _take(source, plan, snapshot)
            at = time.strftime("%F %T", time.gmtime())
            with _progress("comparing" if verify else "copying") as show:
                moved = asyncio.run(
                    moving.move(
                        source, target, plan, folder, snapshot, show, verify=verify, force=force
                    )
                )
        except StoreUnusable as error:
            raise CommandError(str(error)) from error
        finally:
            moving.clear(snapshot)
    for line in _report(moved):
        click.echo(line)
    for note in plan.notes:
        click.echo(f"note: {note}")
    if moved.measurements is not None and not verify:
        seconds = time.monotonic() - started
        copied = moved.measurements.copied
        click.echo(f"copied {copied:,} measurements in {seconds:.1f} s ({copied / seconds:,.0f}/s)")
    if not moved.equal:
        click.echo("heliometer: the two sides differ, see above", err=True)
        return FAILED
    click.echo(f"equal: the target has what {source.data_dir} had at {at} UTC")
    if not verify:
        click.echo(_next(to, served=served))
    return 0


def _next(to: Path, *, served: bool) -> str:
    if served:
        return (
            "the server goes on taking measurements here: to move, stop it, run this again, and "
            f"start the new service with --config {to}"
        )
    return f"no server runs here: start the new service with --config {to}"


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The folder, locked until we end, however that is. Raises CommandError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CommandError(f"another migrate is under way in {folder.parent}") from error
    try:
        yield folder
    finally:
        os.close(descriptor)


def _take(source: "Settings", plan: "Plan", snapshot: Path) -> bool:
    """Make the snapshot; whether a server runs on the data directory."""
    import asyncio

    from heliometer.migrate import run as moving
    from heliometer.server.control_client import is_running, order
    from heliometer.storage.sql.postgresql_url import is_postgresql

    snapshot.mkdir(mode=0o700)
    served = is_running(source.data_dir)
    # The resources come second: every project of a measurement is among them.
    if plan.metrics:
        if served:
            path = (snapshot / moving.METRICS).absolute()
            order(source.data_dir, "snapshot", {"path": str(path)})
        else:
            asyncio.run(moving.snapshot_metrics(source, snapshot))
    if not is_postgresql(source.resources.url):
        asyncio.run(moving.snapshot_resources(source, snapshot))
    return served


# -- what is shown ------------------------------------------------------------------------------


class _Lines:
    """Progress where there is no terminal: a line now and then."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._started = self._told = time.monotonic()
        self._rows = 0

    def __call__(self, what: str, rows: int, total: int) -> None:
        now = time.monotonic()
        if total:
            self._rows += rows
        if now - self._told < EVERY_S:
            return
        self._told = now
        share = f" of {total:,} ({self._rows / total:.0%})" if total else ""
        rate = self._rows / (now - self._started)
        click.echo(f"{self._verb} {what}: {self._rows:,}{share}, {rate:,.0f}/s", err=True)


class _Bar:
    """Progress on a terminal: a bar by measurements."""

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
        """Leave the line."""
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


def _report(moved: "Moved") -> Iterator[str]:
    if moved.tables:
        rows = [
            (t.name, f"{t.here.rows:,}", f"{t.there.rows:,}", _verdict(t.here == t.there))
            for t in moved.tables
        ]
        yield table(("resources", "source", "target", ""), rows, "<>><")
        yield ""
    if moved.measurements is not None:
        yield from _measurements(moved.measurements)
        yield ""
    for damaged in moved.damaged:
        yield f"left out: partition {damaged}"


def _measurements(found: "Compared") -> Iterator[str]:
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
            f"{believed:,} of them are of days that were found equal before and have not changed "
            "since; --verify reads them again"
        )
    for number, what in (
        (found.missing_series, f"of {found.series:,} series are unknown to the target"),
        (found.unknown, "measurements of the source belong to no series; they stay there"),
        (found.bygone, "days of the target are older than the source keeps; they are left alone"),
    ):
        if number:
            yield f"{number:,} {what}"


def _different(number: int) -> str:
    return f"{number:,} series-days differ" if number else "equal"


def _verdict(equal: bool) -> str:
    return "equal" if equal else "differ"
