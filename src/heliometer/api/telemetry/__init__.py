"""Telemetry v2: NTT's meters (004, 002), Ceilometer's reporting API that they extend, and the
health check (000)."""

from collections.abc import Mapping

from starlette.responses import Response

from heliometer.alarms.service import Alarms
from heliometer.api.telemetry import alarms as alarm_operations
from heliometer.api.telemetry import meters as meter_operations
from heliometer.api.telemetry import samples as sample_operations
from heliometer.api.telemetry import wire
from heliometer.core.health import Health
from heliometer.http.operation import Call, Dialect, Operation
from heliometer.meters.samples import Samples
from heliometer.meters.service import Meters
from heliometer.notifications.service import Notifications


def dialect(
    health: Health,
    meters: Meters,
    samples: Samples,
    alarms: Alarms,
    notifications: Notifications,
) -> Dialect:
    """The dialect over these use cases."""

    return Dialect(
        "telemetry-v2",
        "Telemetry v2",
        "/v2",
        (
            *_health(health),
            *meter_operations.operations(meters),
            *sample_operations.operations(samples),
            *alarm_operations.operations(alarms, notifications, meters),
        ),
        wire.render_fault,
        # eclsdk joins its paths to the endpoint of the catalog, which has no version.
        aliases=("",),
    )  # fmt: skip


def health_dialect(health: Health) -> Dialect:
    """The health check alone, for processes that serve nothing else."""
    return Dialect("telemetry-v2", "Health", "/v2", _health(health), wire.render_fault)


def _health(health: Health) -> tuple[Operation, ...]:
    async def alive(_: Call) -> Response:
        return Response(status_code=503 if health.leaving else 204)

    async def healthy(_: Call) -> Response:
        if health.leaving:
            return _unhealthy("Draining: this process is about to stop.", {"process": "draining"})
        failed = await health.failed()
        if not failed:
            return wire.reply({"status": "ok"})
        return _unhealthy(f"Failed: {', '.join(failed)}.", failed)

    return (
        Operation("HEAD", "/health", "Check that the API runs", "Health Check API", alive,
                  success=204, faults=(503,)),
        Operation("GET", "/health", "Check the API and its back-ends", "Health Check API",
                  healthy, faults=(503,)),
    )  # fmt: skip


def _unhealthy(message: str, failed: Mapping[str, str]) -> Response:
    error = {"code": 503, "message": message, "title": "Service Unavailable"}
    return wire.reply({"error": error, "failed": failed}, 503)
