"""HP Cloud Monitoring API v1.0: versions, endpoints, subscriptions, notification methods, alarms.
It has no metrics."""

from heliometer.api.hp import notifications, replies, streams, versions
from heliometer.api.hp.alarms_v1_0 import AlarmOperations
from heliometer.api.hp.faults import render_fault
from heliometer.api.services import Services
from heliometer.http.operation import Dialect


def dialect(services: Services) -> Dialect:
    """The dialect at ``/v1.0``."""
    return Dialect(
        "hp-v1.0",
        "HP Cloud Monitoring API v1.0",
        "/v1.0",
        (
            versions.get_version(versions.V1_0, "v1.0 §4.4.1.2"),
            *streams.operations(services.streams, streams.V1_0),
            *notifications.operations_v1_0(services.notifications),
            *AlarmOperations(services.alarms).operations(),
        ),
        render_fault,
        replies=replies.V1_0,
        fault=replies.FAULT,
    )
