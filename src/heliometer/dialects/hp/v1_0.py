"""HP Cloud Monitoring API v1.0: so far its version document."""

from heliometer.dialects.hp import versions
from heliometer.dialects.hp.faults import render_fault
from heliometer.http.operation import Dialect


def dialect() -> Dialect:
    """The dialect. There are no metrics in v1.0."""
    return Dialect(
        "hp-v1.0",
        "HP Cloud Monitoring API v1.0",
        "/v1.0",
        (versions.get_version(versions.V1_0, "v1.0 §4.4.1.2"),),
        render_fault,
    )
