"""HP Cloud Monitoring API v1.0: versions, endpoints, subscriptions, notification methods, alarms.
It has no metrics."""

from heliometer.alarms.service import Alarms
from heliometer.api.hp import alarms_v1_0, notifications, versions
from heliometer.api.hp import streams as stream_operations
from heliometer.api.hp.faults import render_fault
from heliometer.feed.service import Streams
from heliometer.http.operation import Dialect
from heliometer.notifications.service import Notifications


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
