"""Telemetry v2: NTT's meters (004, 002), Ceilometer's reporting API that they extend, and the
health check (000)."""

from heliometer.api.services import Services
from heliometer.api.telemetry import replies, wire
from heliometer.api.telemetry.alarms import AlarmOperations
from heliometer.api.telemetry.health import HealthOperations
from heliometer.api.telemetry.meters import MeterOperations
from heliometer.api.telemetry.samples import SampleOperations
from heliometer.core.health import Health
from heliometer.http.operation import Dialect


def dialect(services: Services) -> Dialect:
    """The dialect at ``/v2``."""
    alarms, notifications = services.alarms, services.notifications
    return Dialect(
        "telemetry-v2",
        "Telemetry v2",
        "/v2",
        (
            *HealthOperations(services.health).operations(),
            *MeterOperations(services.meters).operations(),
            *SampleOperations(services.samples).operations(),
            *AlarmOperations(alarms, notifications, services.meters).operations(),
        ),
        wire.render_fault,
        # eclsdk joins its paths to the endpoint of the catalog, which has no version.
        aliases=("",),
        replies=replies.V2,
        fault=replies.FAULT,
    )


def health_dialect(health: Health) -> Dialect:
    """The health check alone, for processes without the API."""
    operations = HealthOperations(health).operations()
    return Dialect("telemetry-v2", "Health", "/v2", operations, wire.render_fault)
