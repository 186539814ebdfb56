"""Aggregate posts of 1000 metrics over 4 connections, and VictoriaMetrics with the same points."""

import time

from benchmarks import victoria
from benchmarks.bodies import Make, Rounds, heliometer_body, victoria_body
from benchmarks.figures import Figure, Options, latencies
from benchmarks.load import Outcome, drive
from benchmarks.server import Server

SERIES = 10_000
BATCH = 1000
CONNECTIONS = 4


def run(options: Options) -> list[Figure]:
    """Points a second, each acknowledged when it is durable."""
    seconds = 3.0 if options.quick else 25.0
    outcome, cpu = _heliometer(options, seconds)
    points = outcome.requests * BATCH
    rate = points / outcome.seconds
    figures = [
        Figure(
            "aggregate posts",
            rate,
            "points/s",
            at_least=300_000,
            note=f"{points:,} points in {outcome.seconds:.1f} s; processor: server {cpu:.1f} s "
            f"({cpu / points * 1e6:.2f} µs/point), load {outcome.cpu_seconds:.1f} s",
        ),
        *latencies("acknowledged after", outcome.latencies),
    ]
    if victoria.PROGRAM is None:
        print("victoria-metrics is not installed (apt-get install victoria-metrics): no ratio")
        return figures
    other, other_cpu, rows = _victoria(options, seconds)
    points = other.requests * BATCH
    other_rate = points / other.seconds
    figures += [
        Figure(
            "VictoriaMetrics, the same posts",
            other_rate,
            "points/s",
            note=f"{points:,} sent, {rows:,} taken; processor: server {other_cpu:.1f} s "
            f"({other_cpu / points * 1e6:.2f} µs/point), load {other.cpu_seconds:.1f} s; "
            "it acknowledges before the points are on the disk",
        ),
        *latencies("VictoriaMetrics acknowledged after", other.latencies),
        Figure("ratio to VictoriaMetrics", rate / other_rate, "", at_least=0.5),
    ]
    return figures


def _heliometer(options: Options, seconds: float) -> tuple[Outcome, float]:
    with Server(options.folder / "data") as server:
        token, _ = server.sign_in()
        headers = {"X-Auth-Token": token}
        # The first round makes the series; what is measured is the life after that.
        drive(server.address, 1, _rounds(heliometer_body, headers, rounds=1))
        requests = _rounds(heliometer_body, headers)
        cpu = server.cpu_seconds
        outcome = drive(server.address, CONNECTIONS, requests, seconds)
        cpu = server.cpu_seconds - cpu
    outcome.require(204)
    return outcome, cpu


def _victoria(options: Options, seconds: float) -> tuple[Outcome, float, int]:
    with victoria.Victoria(options.folder / "victoria") as server:
        drive(server.address, 1, _rounds(victoria_body, {}, rounds=1, scale=1000))
        requests = _rounds(victoria_body, {}, scale=1000)
        before, cpu = server.rows(), server.cpu_seconds
        outcome = drive(server.address, CONNECTIONS, requests, seconds)
        cpu = server.cpu_seconds - cpu
        rows = server.rows() - before
    outcome.require(204)
    return outcome, cpu, rows


def _rounds(
    make: Make, headers: dict[str, str], *, rounds: int | None = None, scale: int = 1
) -> Rounds:
    return Rounds(
        make,
        headers,
        series=SERIES,
        batch=BATCH,
        start_s=int(time.time()) - 6 * 3600,
        step_s=1,
        rounds=rounds,
        connections=CONNECTIONS,
        stamp_scale=scale,
    )
