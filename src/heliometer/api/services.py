"""What dialects and the console have at hand to answer with."""

from dataclasses import dataclass

from heliometer.alarms.service import Alarms
from heliometer.config import Settings
from heliometer.core.health import Health
from heliometer.feed.service import Streams
from heliometer.identity.audit import AuditTrail
from heliometer.identity.invitations import Invitations
from heliometer.identity.ports import Identity
from heliometer.meters.samples import Samples
from heliometer.meters.service import Meters
from heliometer.metrics.reports import Reports
from heliometer.metrics.service import Metrics
from heliometer.notifications.service import Notifications
from heliometer.notifications.verification import Validation
from heliometer.projects.metering import Metering


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The service of each noun."""

    settings: Settings
    identity: Identity
    metrics: Metrics
    reports: Reports
    metering: Metering
    alarms: Alarms
    notifications: Notifications
    validation: Validation
    streams: Streams
    meters: Meters
    samples: Samples
    health: Health
    audit: AuditTrail
    invitations: Invitations | None
    """``None`` where users live in Keystone."""
