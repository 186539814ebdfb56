"""Sends checked files in aggregate posts (v1.1 §4.4.7.2)."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import click
import msgspec

from heliometer.cli.access import Access
from heliometer.cli.client import Client
from heliometer.cli.errors import CommandError
from heliometer.cli.file_check import Survey, survey
from heliometer.cli.file_rows import Fault, Filling, Reader
from heliometer.cli.input_files import Progress, open_source
from heliometer.cli.time_formats import show


@dataclass(slots=True)
class Tally:
    """Counts of what was sent so far."""

    measurements: int = 0
    series: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.measurements / self.seconds if self.seconds else 0.0
        return (
            f"{self.measurements} measurement{'s' * (self.measurements != 1)} of {self.series} "
            f"series in {self.seconds:.1f} s ({rate:,.0f}/s)"
        )


def push_files(
    access: Access,
    files: Sequence[str],
    format_: str | None,
    filling: Filling,
    *,
    shift: bool,
    skip_old: bool,
    batch: int,
    dry_run: bool,
) -> None:
    """Check all files, then send them and report how much was sent. Raises CommandError."""
    surveys = []
    for source in [open_source(file, format_) for file in files]:
        with progress_bar(f"checking {source.name}", source.size) as progress:
            now = replace(filling, now_ms=int(time.time() * 1000))
            surveys.append(survey(source, now, shift=shift, skip_old=skip_old, progress=progress))
    left_out = sum(checked.left_out for checked in surveys)
    extra = f"; skipped {left_out} older than two weeks" if left_out else ""
    if dry_run:
        for checked in surveys:
            click.echo(_summary(checked))
        return
    with access.connect() as client:
        tally = send(client, surveys, batch)
    click.echo(f"pushed {tally}{extra}")


def _summary(checked: Survey) -> str:
    left_out = f", skipping {checked.left_out} older than two weeks" if checked.left_out else ""
    span = f" from {show(checked.first_ms / 1000)} to {show(checked.last_ms / 1000)}"
    return (
        f"{checked.source.name}: would push {checked.rows} measurements of {checked.series} series"
        f"{span if checked.rows else ''}{left_out}"
    )


def send(client: Client, surveys: Iterable[Survey], batch: int) -> Tally:
    """Post all measurements, ``batch`` at a time. Raises CommandError that tells what was sent."""
    tally = Tally()
    seen: set[object] = set()
    started = time.monotonic()
    for checked in surveys:
        before = tally.measurements
        try:
            with progress_bar(f"pushing {checked.source.name}", checked.source.size) as progress:
                _send_one(client, checked, batch, tally, seen, progress)
        except CommandError as error:
            sent = tally.measurements - before
            raise CommandError(
                f"{checked.source.name}: {error.message}; {sent} of its {checked.rows} "
                "measurements were stored"
                + (", and would count twice if pushed again" if sent else "")
            ) from error
    tally.series = len(seen)
    tally.seconds = time.monotonic() - started
    return tally


def _send_one(
    client: Client,
    checked: Survey,
    batch: int,
    tally: Tally,
    seen: set[object],
    progress: Progress,
) -> None:
    # Within one post the measurements of a series go as one vector: a tenth of the bytes.
    vectors: dict[int, list[tuple[float, float]]] = {}
    waiting = 0
    reader: Reader | None = None
    for reader, row in checked.source.read(checked.filling, progress):
        if isinstance(row, Fault):
            raise CommandError(f"line {row.line} changed while the file was read: {row.reason}")
        timestamp = row.timestamp_ms + checked.shift_ms
        if timestamp < checked.oldest_allowed_ms:
            continue
        seconds = timestamp // 1000 if timestamp % 1000 == 0 else timestamp / 1000
        vectors.setdefault(row.series, []).append((seconds, row.value))
        waiting += 1
        if waiting == batch:
            tally.measurements += _post(client, reader, vectors, seen)
            vectors, waiting = {}, 0
    if waiting and reader is not None:
        tally.measurements += _post(client, reader, vectors, seen)


def _post(
    client: Client,
    reader: Reader,
    vectors: dict[int, list[tuple[float, float]]],
    seen: set[object],
) -> int:
    metrics = []
    for index, values in vectors.items():
        namespace, dimensions = reader.series[index]
        seen.add((namespace, dimensions))
        metrics.append(
            {"namespace": namespace, "dimensions": dict(dimensions), "time_values": values}
        )
    client.post("/metrics/aggregate", msgspec.json.encode(metrics))
    return sum(map(len, vectors.values()))


@contextmanager
def progress_bar(label: str, size: int) -> Iterator[Progress]:
    """A bar by bytes on a terminal's standard error; elsewhere nothing."""
    stream = sys.stderr
    with click.progressbar(
        length=max(size, 1), label=label, file=stream, hidden=not stream.isatty()
    ) as bar:
        yield bar.update
