"""The health check (000)."""

from collections.abc import Mapping

from starlette.responses import Response

from heliometer.api.telemetry import wire
from heliometer.core.health import Health
from heliometer.http.operation import Call, Operation


class HealthOperations:
    """Tells load balancers and operators whether this process can answer."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def operations(self) -> tuple[Operation, ...]:
        """HEAD: the API is running. GET: what it needs to answer works, too."""
        source = "Health Check API"
        return (
            Operation(
                "HEAD", "/health", "Check that the API runs", source, self.check_api, success=204,
                faults=(503,),
            ),
            Operation(
                "GET", "/health", "Check the API and its back-ends", source, self.check_all,
                faults=(503,),
            ),
        )  # fmt: skip

    async def check_api(self, _: Call) -> Response:
        return Response(status_code=503 if self._health.leaving else 204)

    async def check_all(self, _: Call) -> Response:
        if self._health.leaving:
            return _unhealthy("Draining: this process is about to stop.", {"process": "draining"})
        report = await self._health.report()
        if report.failed:
            message = f"Failed: {', '.join(report.failed)}."
            return _unhealthy(message, report.failed, report.degraded)
        if report.degraded:
            return wire.reply({"status": "degraded", "degraded": report.degraded})
        return wire.reply({"status": "ok"})


def _unhealthy(
    message: str, failed: Mapping[str, str], degraded: Mapping[str, str] | None = None
) -> Response:
    error = {"code": 503, "message": message, "title": "Service Unavailable"}
    body = {"error": error, "failed": failed}
    return wire.reply(body | ({"degraded": degraded} if degraded else {}), 503)
