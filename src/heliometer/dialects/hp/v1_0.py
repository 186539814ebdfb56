"""HP Cloud Monitoring API v1.0: versions, endpoints, subscriptions, notification methods, alarms.
It has no metrics."""

from heliometer.dialects.hp import alarms_v1_0, notifications, versions
from heliometer.dialects.hp import streams as stream_operations
from heliometer.dialects.hp.faults import render_fault
from heliometer.http.operation import Dialect
from heliometer.usecases.alarms import Alarms
from heliometer.usecases.notifications import Notifications
from heliometer.usecases.streams import Streams


def dialect(alarms: Alarms, notifying: Notifications, streams: Streams) -> Dialect:
    """The dialect over these use cases."""
    return Dialect(
        "hp-v1.0",
        "HP Cloud Monitoring API v1.0",
        "/v1.0",
        (
            versions.get_version(versions.V1_0, "v1.0 §4.4.1.2"),
            *stream_operations.operations_v1_0(streams),
            *notifications.operations_v1_0(notifying),
            *alarms_v1_0.operations(alarms),
        ),
        render_fault,
    )
