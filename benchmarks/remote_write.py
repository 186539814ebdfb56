"""Prometheus remote write of 2000 samples over 8 connections, here and to VictoriaMetrics."""

import time
from collections.abc import Sequence

import cramjam
import numpy as np

from benchmarks import victoria
from benchmarks.figures import Figure, Options, latencies
from benchmarks.load import Next, Outcome, drive
from benchmarks.remote_write_body import time_series
from benchmarks.server import Server, request

SERIES = 10_000
BATCH = 2000
"""Samples of one request, and requests under way: what a loaded Prometheus sends unless it is told
otherwise (``max_samples_per_send``, shards)."""
CONNECTIONS = 8
STAMP_BYTES, VALUE_AT, TAIL = 6, 3, 18
PATH = "/api/v1/write"


def run(options: Options) -> list[Figure]:
    """Points a second, the same requests to both, each once."""
    rounds = 60 if options.quick else 600
    bodies = _bodies(rounds + 1)
    warm = SERIES // BATCH
    outcome, cpu = _heliometer(options, bodies[:warm], bodies[warm:])
    points = outcome.requests * BATCH
    rate = points / outcome.seconds
    figures = [
        Figure(
            "remote write",
            rate,
            "points/s",
            note=f"{points:,} points in {outcome.seconds:.1f} s, durable; processor: server "
            f"{cpu:.1f} s ({cpu / points * 1e6:.2f} µs/point), load {outcome.cpu_seconds:.1f} s",
        ),
        *latencies("remote write acknowledged after", outcome.latencies),
    ]
    if victoria.PROGRAM is None:
        print("victoria-metrics is not installed (apt-get install victoria-metrics): no ratio")
        return figures
    with victoria.Victoria(options.folder / "victoria") as server:
        drive(server.address, 1, _each(bodies[:warm], {}))
        used = server.cpu_seconds
        other = drive(server.address, CONNECTIONS, _each(bodies[warm:], {}))
        used = server.cpu_seconds - used
    other.require(204)
    points = other.requests * BATCH
    other_rate = points / other.seconds
    return [
        *figures,
        Figure(
            "VictoriaMetrics, the same remote write",
            other_rate,
            "points/s",
            note=f"processor: server {used:.1f} s ({used / points * 1e6:.2f} µs/point); "
            "it acknowledges before the points are on the disk",
        ),
        *latencies("VictoriaMetrics acknowledged after", other.latencies),
        Figure("remote write: ratio to VictoriaMetrics", rate / other_rate, "", at_least=0.5),
    ]


def _heliometer(
    options: Options, warm: Sequence[bytes], bodies: Sequence[bytes]
) -> tuple[Outcome, float]:
    with Server(options.folder / "data") as server:
        token, _ = server.sign_in()
        headers = {"Authorization": f"Bearer {token}"}
        # The first round makes the series; what is measured is the life after that.
        drive(server.address, 1, _each(warm, headers)).require(204)
        cpu = server.cpu_seconds
        outcome = drive(server.address, CONNECTIONS, _each(bodies, headers))
        cpu = server.cpu_seconds - cpu
    outcome.require(204)
    return outcome, cpu


def _each(bodies: Sequence[bytes], headers: dict[str, str]) -> Next:
    """Every body once, whichever connection is free."""
    common = {
        **headers,
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    rest = iter(bodies)

    def following(_: int) -> bytes | None:
        body = next(rest, None)
        return None if body is None else request("POST", PATH, body, common)

    return following


def _bodies(rounds: int) -> list[bytes]:
    """Round by round all series, a second apart, as an exporter of a hundred metrics has them."""
    start_ms = int(time.time() * 1000) - 6 * 3_600_000
    templates = []
    for first in range(0, SERIES, BATCH):
        items = [time_series(_labels(n), [(start_ms, 1.5)]) for n in range(first, first + BATCH)]
        ends = np.cumsum([len(item) for item in items])
        templates.append((np.frombuffer(bytearray(b"".join(items)), np.uint8), ends))
    random = np.random.default_rng(1)
    values = np.round(random.uniform(0, 1e6, SERIES), 2)
    bodies = []
    for number in range(rounds):
        stamp = start_ms + number * 1000
        digits = [stamp >> 7 * i & 0x7F | (0x80 if i < STAMP_BYTES - 1 else 0) for i in range(6)]
        values = np.round(values + random.normal(0, 10, SERIES), 2)
        for part, (buffer, ends) in enumerate(templates):
            tails = ends[:, None] - TAIL + np.arange(TAIL)
            buffer[tails[:, -STAMP_BYTES:]] = np.array(digits, np.uint8)
            chunk = values[part * BATCH : (part + 1) * BATCH]
            buffer[tails[:, VALUE_AT : VALUE_AT + 8]] = (
                chunk.astype("<f8").view(np.uint8).reshape(-1, 8)
            )
            bodies.append(bytes(cramjam.snappy.compress_raw(buffer.tobytes())))
    return bodies


def _labels(series: int) -> dict[str, str]:
    host, metric = divmod(series, 100)
    return {
        "__name__": f"benchmark_metric_{metric:03d}_total",
        "instance": f"host-{host:04d}:9100",
        "job": "node",
        "mode": "user",
        "region": "region-1",
    }
