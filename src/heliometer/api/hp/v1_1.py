"""HP Helion Public Cloud Monitoring API v1.1."""

from heliometer.api.hp import notifications, replies, streams, versions
from heliometer.api.hp.alarms import AlarmOperations
from heliometer.api.hp.audit import AuditOperations
from heliometer.api.hp.faults import render_fault
from heliometer.api.hp.invitations import InvitationOperations
from heliometer.api.hp.metering import MeteringOperations
from heliometer.api.hp.metrics import MetricOperations
from heliometer.api.services import Services
from heliometer.http.operation import Dialect


def dialect(services: Services) -> Dialect:
    """The dialect at ``/v1.1``."""
    invitations = services.invitations
    return Dialect(
        "hp-v1.1",
        "HP Helion Public Cloud Monitoring API v1.1",
        "/v1.1",
        (
            versions.get_version(versions.V1_1, "v1.1 §4.4.1.2"),
            *MetricOperations(services.metrics, services.reports).operations(),
            *MeteringOperations(services.metering).operations(),
            *streams.operations(services.streams, streams.V1_1),
            *AlarmOperations(services.alarms).operations(),
            *notifications.operations_v1_1(services.notifications, services.validation),
            *AuditOperations(services.audit).operations(),
            *(InvitationOperations(invitations).operations() if invitations else ()),
        ),
        render_fault,
        replies=replies.V1_1,
        fault=replies.FAULT,
    )
