"""Samples, statistics and resources in Ceilometer's forms."""

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from heliometer.api.telemetry import wire
from heliometer.http.operation import Call
from heliometer.meters.model import INSTANCE, NAME, RESOURCE, Meter
from heliometer.meters.sample_model import Resource, Sample, Statistic


def metadata_of(meter: Meter) -> dict[str, str]:
    """Ceilometer's metadata of a meter's resource: its other dimensions and display name."""
    own = {k: v for k, v in meter.series.dimensions if k not in (NAME, RESOURCE, INSTANCE)}
    return {**own, "display_name": meter.display_name}


def old_form(sample: Sample) -> dict[str, Any]:
    """A sample as ``/v2/meters/NAME`` shows it (Ceilometer's OldSample)."""
    meter, at = sample.meter, wire.iso(sample.timestamp_ms)
    return {
        "counter_name": meter.name,
        "counter_type": meter.type,
        "counter_unit": meter.unit,
        "counter_volume": sample.value,
        "message_id": sample.id,
        "project_id": meter.series.project_id,
        "recorded_at": at,
        "resource_id": meter.resource_id,
        "resource_metadata": metadata_of(meter),
        "source": "",
        "timestamp": at,
        "user_id": "",
    }


def new_form(sample: Sample) -> dict[str, Any]:
    """A sample as ``/v2/samples`` shows it."""
    meter, at = sample.meter, wire.iso(sample.timestamp_ms)
    return {
        "id": sample.id,
        "meter": meter.name,
        "type": meter.type,
        "unit": meter.unit,
        "volume": sample.value,
        "user_id": "",
        "project_id": meter.series.project_id,
        "resource_id": meter.resource_id,
        "source": "",
        "timestamp": at,
        "recorded_at": at,
        "metadata": metadata_of(meter),
    }


def statistic_document(
    statistic: Statistic,
    unit: str,
    period: int | None,
    keys: Sequence[str],
    aggregates: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """The statistics of a period and group; ``aggregates`` are functions with parameters."""
    document: dict[str, Any] = {
        "unit": unit,
        "count": statistic.count,
        "sum": statistic.sum,
        "avg": statistic.avg,
        "min": statistic.min,
        "max": statistic.max,
        "period": period or 0,
        "period_start": wire.iso(statistic.start_ms),
        "period_end": wire.iso(statistic.end_ms),
        "duration": (statistic.last_ms - statistic.first_ms) / 1000,
        "duration_start": wire.iso(statistic.first_ms),
        "duration_end": wire.iso(statistic.last_ms),
        "groupby": dict(zip(keys, statistic.group, strict=True)) if keys else None,
    }
    if aggregates:
        document["aggregate"] = {
            f"{function}/{param}" if param else function: _aggregate(statistic, function, param)
            for function, param in aggregates
        }
    return {
        key: value if not isinstance(value, float) or math.isfinite(value) else None
        for key, value in document.items()
    }


def _aggregate(statistic: Statistic, function: str, param: str) -> float:
    if function != "cardinality":
        return float(getattr(statistic, function))
    # A series has one resource and one project, and neither a user nor a source.
    return float(len(statistic.resources) if param == "resource_id" else param == "project_id")


def resource_document(call: Call, resource: Resource, links: bool) -> dict[str, Any]:
    """A resource, with ``links`` to its meters."""
    here = f"{call.base_url}/v2"
    name = quote(resource.id, safe="")
    found = [{"rel": "self", "href": f"{here}/resources/{name}"}]
    if links:
        found += [
            {
                "rel": each,
                "href": f"{here}/meters/{quote(each, safe='')}?q.field=resource_id&q.value={name}",
            }
            for each in dict.fromkeys(m.name for m in resource.meters)
        ]
    metadata: dict[str, str] = {}
    for meter in resource.meters:
        metadata |= metadata_of(meter)
    metadata.pop("display_name", None)
    return {
        "resource_id": resource.id,
        "project_id": call.caller.project_id,
        "user_id": "",
        "source": "",
        "first_sample_timestamp": wire.iso(resource.first_ms),
        "last_sample_timestamp": wire.iso(resource.last_ms),
        "metadata": metadata,
        "links": found,
    }
