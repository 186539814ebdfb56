"""Encodes a collector's round for ``POST /v1.1/metrics/reports``."""

import gzip
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from heliometer.collectors import Measurement

LARGEST = 20_000
"""Most measurements in one report: about 3 MB uncompressed."""
LEVEL = 6


def reports_of(measurements: Sequence[Measurement]) -> Iterator[bytes]:
    """Compressed bodies, each of at most LARGEST measurements."""
    for at in range(0, len(measurements), LARGEST):
        parts: dict[str, list[dict[str, Any]]] = {}
        for each in measurements[at : at + LARGEST]:
            parts.setdefault(each.project_id, []).append(
                {
                    "namespace": each.namespace,
                    "dimensions": dict(each.dimensions),
                    "timestamp": each.timestamp_ms / 1000,
                    "value": each.value,
                }
            )
        document = {"reports": [{"project": p, "metrics": metrics} for p, metrics in parts.items()]}
        yield gzip.compress(msgspec.json.encode(document), LEVEL, mtime=0)
