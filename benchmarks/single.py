"""Posts of one metric each over 64 connections: many small commits share one."""

import os
import time
from pathlib import Path

from benchmarks.bodies import Rounds, heliometer_single_body
from benchmarks.figures import Figure, Options, latencies
from benchmarks.load import drive
from benchmarks.server import Server

CONNECTIONS = 64
SERIES = 1000


def run(options: Options) -> list[Figure]:
    """Requests a second, each acknowledged when it is durable."""
    seconds = 3.0 if options.quick else 15.0
    sync = _sync_seconds(options.folder / "sync")
    with Server(options.folder / "data") as server:
        token, _ = server.sign_in()

        def rounds(number: int | None) -> Rounds:
            return Rounds(
                heliometer_single_body,
                {"X-Auth-Token": token},
                series=SERIES,
                batch=1,
                start_s=int(time.time()) - 3600,
                step_s=1,
                rounds=number,
                connections=1 if number else CONNECTIONS,
            )

        drive(server.address, 1, rounds(1))
        requests = rounds(None)
        cpu = server.cpu_seconds
        outcome = drive(server.address, CONNECTIONS, requests, seconds)
        cpu = server.cpu_seconds - cpu
    outcome.require(204)
    return [
        Figure(
            "single posts, 64 connections",
            outcome.requests / outcome.seconds,
            "requests/s",
            at_least=4000,
            note=f"processor: server {cpu:.1f} s of {outcome.seconds:.1f} s "
            f"({cpu / outcome.requests * 1e6:.0f} µs/request), load {outcome.cpu_seconds:.1f} s; "
            f"one fdatasync on this disk takes {sync * 1000:.2f} ms",
        ),
        *latencies("single post acknowledged after", outcome.latencies, p99_at_most=50),
    ]


def _sync_seconds(path: Path) -> float:
    """The median time to append 4 KiB and sync them: what no durable commit can beat."""
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2]
