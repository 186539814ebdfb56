"""``heliometer backup`` and ``restore``: the embedded data as one file."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heliometer.cli.errors import CommandError
from heliometer.cli.options import load_settings, settings_options

if TYPE_CHECKING:
    from heliometer.config import Settings
from heliometer.core.finding import size


@click.command(short_help="Write the embedded data to one file, also while serving.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@settings_options
def backup(file: Path, data_dir: str | None, config: Path | None) -> None:
    """Write a consistent copy of all embedded data to FILE, a new tar archive.

    Works while the server runs, which keeps serving. The file holds the projects, users, series
    and measurements; keep it as safe as the data directory. The key that secrets of notification
    methods are encrypted with (secrets.key) is not in it: keep a copy of that elsewhere.

    \b
    Examples:
      heliometer backup heliometer.tar
      heliometer backup "/backup/$(date +%F).tar" --data-dir /var/lib/heliometer
    """
    target = file.expanduser().absolute()
    if target.exists():
        raise CommandError(f"{file} exists; choose another name")
    if not target.parent.is_dir():
        raise CommandError(f"there is no folder {target.parent}")
    settings = load_settings(config, data_dir)
    if not settings.data_dir.is_dir():
        raise CommandError(f"no data in {settings.data_dir}; use --data-dir or --config")
    started = time.monotonic()
    with _waiting("backing up"):
        report = _back_up(settings, target)
    click.echo(
        f"backed up {report['measurements']} measurements of {report['series']} series to {file}: "
        f"{size(int(report['bytes']))} in {time.monotonic() - started:.1f} s"
    )


@click.command(short_help="Put a backup into a data directory.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory to create.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Move a data directory that is not empty aside instead of failing.",
)
def restore(file: Path, data_dir: Path, force: bool) -> None:
    """Create a data directory from FILE, a backup.

    Everything is unpacked beside the directory and checked against the backup's checksums before
    it takes its place. No server may run on the directory.

    \b
    Examples:
      heliometer restore heliometer.tar --data-dir ./restored
      heliometer restore heliometer.tar --data-dir /var/lib/heliometer --force
    """
    from heliometer.cli.restore import restore_to

    report = restore_to(file.expanduser(), data_dir.expanduser().absolute(), force=force)
    if report.aside is not None:
        click.echo(f"the previous data is now in {report.aside}")
    click.echo(
        f"restored {report.files} files, {size(report.bytes)}, of the backup of {report.created} "
        f"to {data_dir}; start the server with: heliometer serve --data-dir {data_dir}"
    )
    if report.secret_key and not report.has_key:
        click.echo(
            f"its webhooks and other secrets need the key with fingerprint {report.secret_key}, "
            "which is in no backup: copy the former data directory's secrets.key to "
            f"{data_dir / 'secrets.key'}, or name it with secrets.key_file; without it those "
            "notification methods are disabled",
            err=True,
        )


def _back_up(settings: "Settings", target: Path) -> Mapping[str, Any]:
    from heliometer.server.control_client import command, is_running

    if is_running(settings.data_dir):
        return command(settings.data_dir, "backup", {"path": str(target)})
    from heliometer.server.operator import back_up_stopped

    return back_up_stopped(settings, target)


@contextmanager
def _waiting(label: str) -> Iterator[None]:
    """Show on a terminal that work is under way, and for how long; nothing elsewhere."""
    stream = sys.stderr
    if not stream.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_tick, args=(label, done.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        click.echo("\r\x1b[K", nl=False, err=True)


def _tick(label: str, wait: Callable[[float], bool]) -> None:
    seconds = 0
    while not wait(1.0):
        seconds += 1
        click.echo(f"\r{label} … {seconds} s", nl=False, err=True)
