"""Meters: series as Telemetry v2 sees them, with what it knows of them besides measurements.

Times are milliseconds since the epoch.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from heliometer.metrics.model import Dimensions, Series

CUMULATIVE, DELTA, GAUGE = "cumulative", "delta", "gauge"
TYPES = (CUMULATIVE, DELTA, GAUGE)
DEFAULT_TYPE = GAUGE
CUSTOM_NAMESPACE = "custom"
"""The namespace of custom meters that were created without one."""
NAME, RESOURCE, INSTANCE, RESOURCE_NAME = (
    "metric_name",
    "resource_id",
    "instance_id",
    "resource_name",
)
"""Dimensions that are fields of a meter."""


class Kind(NamedTuple):
    """Type and unit of a meter's values."""

    type: str
    unit: str


def _known() -> dict[tuple[str, str], Kind]:
    """v1.1 §2.3.2 and §2.3.3, and v1.0 §2.1.2.3 under v1.1's names."""
    compute = {
        "cpu_total_utilization": Kind(GAUGE, "percent"),
        "cpu_time": Kind(DELTA, "nanoseconds"),
        "cpu_total_time": Kind(CUMULATIVE, "nanoseconds"),
    }
    units = {
        "disk_read_ops": "operations",
        "disk_write_ops": "operations",
        "disk_read_bytes": "bytes",
        "disk_write_bytes": "bytes",
        "net_in_bytes": "bytes",
        "net_out_bytes": "bytes",
        "net_in_dropped": "packets",
        "net_out_dropped": "packets",
        "net_in_packets": "packets",
        "net_out_packets": "packets",
        "net_in_errors": "errors",
        "net_out_errors": "errors",
    }
    for name, unit in units.items():
        compute[name] = Kind(DELTA, unit)
        compute[f"{name}_count"] = Kind(CUMULATIVE, unit)
    volume = {
        "volume_read_ops": "operations",
        "volume_write_ops": "operations",
        "volume_read_bytes": "bytes",
        "volume_write_bytes": "bytes",
        "volume_read_time": "seconds",
        "volume_write_time": "seconds",
        "volume_idle_time": "seconds",
    }
    return {("hpcs.compute", name): kind for name, kind in compute.items()} | {
        ("hpcs.volume", name): Kind(DELTA, unit) for name, unit in volume.items()
    }


KNOWN: Mapping[tuple[str, str], Kind] = _known()


@dataclass(frozen=True, slots=True)
class CustomMeter:
    """A meter that a tenant created."""

    id: str
    project_id: str
    namespace: str
    resource_id: str
    name: str
    type: str
    unit: str
    display_name: str
    created_ms: int

    @property
    def dimensions(self) -> Dimensions:
        """The dimensions of the meter's series."""
        return ((NAME, self.name), (RESOURCE, self.resource_id))


class Put(NamedTuple):
    """A number of samples to be stored for one custom meter."""

    meter_id: str
    samples: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A project's limits for custom meters."""

    meters: int
    """Custom meters of the project."""
    active: int
    """Custom meters that take samples within 24 hours."""
    samples: int
    """Samples of one custom meter in a UTC day."""


class Meter(NamedTuple):
    """A series in the form of a Ceilometer meter."""

    series: Series
    name: str
    resource_id: str
    type: str
    unit: str
    display_name: str

    @property
    def id(self) -> str:
        """The meter's id (004, Sample Response)."""
        return meter_id(self.resource_id, self.name)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a request to create a custom meter, or to put a sample into it."""

    name: str
    resource_id: str
    namespace: str | None
    type: str
    unit: str
    display_name: str
    volume: float | None
    recorded_ms: int


def name_of(series: Series) -> str:
    """A meter's name: the dimension ``metric_name``, or else the namespace."""
    return dict(series.dimensions).get(NAME, series.namespace)


def resource_of(series: Series) -> str:
    """A meter's resource: the dimension ``resource_id``, or else ``instance_id``, or else empty."""
    dimensions = dict(series.dimensions)
    return dimensions.get(RESOURCE) or dimensions.get(INSTANCE, "")


def meter_id(resource_id: str, name: str) -> str:
    """The id of a meter (004, Sample Response): Base64 of resource and name, with a line end."""
    return base64.b64encode(f"{resource_id}+{name}".encode()).decode() + "\n"


def read_meter_id(text: str) -> tuple[str, str] | None:
    """Resource and name of an id, with or without its line end; ``None`` if it is no id."""
    try:
        resource, sign, name = (
            base64.b64decode(text.strip(), validate=True).decode().rpartition("+")
        )
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return (resource, name) if sign else None
