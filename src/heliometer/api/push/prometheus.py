"""Prometheus remote write, version 1."""

from starlette.responses import Response

from heliometer.api.push.receiver import PROJECT, Receiver
from heliometer.api.push.remote_write import FORM, read, unpack
from heliometer.api.services import Services
from heliometer.core.errors import Code, HeliometerError, Malformed
from heliometer.http.operation import STATUS, Call, Dialect, Operation, Parameter
from heliometer.identity.model import Permission
from heliometer.metrics.service import Metrics

NAMESPACE = "prometheus"
"""The namespace of the series unless the URL names another."""
INLINE_BYTES = 1 << 20


def dialect(services: Services) -> Dialect:
    """The dialect at ``/api/v1/write``."""
    return Dialect(
        "prometheus",
        "Prometheus remote write",
        "/api/v1",
        RemoteWrite(services.metrics).operations(),
        render_fault,
    )


class RemoteWrite:
    """Takes remote write requests."""

    def __init__(self, metrics: Metrics) -> None:
        self._receiver = Receiver(metrics, FORM, INLINE_BYTES)

    def operations(self) -> tuple[Operation, ...]:
        """The one operation of remote write."""
        return (
            Operation(
                "POST", "/write", "Remote write", "Prometheus Remote-Write 1.0 specification",
                self.write, Permission.POST_METRICS, 204, (413, 415),
                (
                    Parameter("namespace", f"Namespace of the series; {NAMESPACE} without."),
                    PROJECT,
                ),
                foreign=True,
            ),
        )  # fmt: skip

    async def write(self, call: Call) -> Response:
        kind = call.request.headers.get("content-type", "application/x-protobuf")
        if "protobuf" not in kind or "write.v2" in kind:
            raise HeliometerError(
                Code.UNSUPPORTED_MEDIA_TYPE,
                f"Content-Type {kind[:80]!r} is not supported.",
                details="Send application/x-protobuf: remote write 1.0.",
            )
        given = call.request.query_params.get("namespace", NAMESPACE)
        project, namespace = await self._receiver.destination(call, given)
        packed = b""

        def unpack_it(sent: bytes, limit: int) -> bytes | None:
            nonlocal packed
            packed = sent
            return unpack(sent, limit)

        body = await call.body({"snappy": unpack_it})
        intake = self._receiver.intake(project)
        columns = await self._receiver.decode(call, body, lambda: read(body, namespace, intake))
        # Of the two bodies, the packed one is cheaper to digest.
        await self._receiver.store(intake, columns, packed or body, namespace)
        if intake.complaint:
            raise Malformed(intake.complaint)
        return Response(status_code=204)


def render_fault(error: HeliometerError, request_id: str) -> Response:
    """One line of text, which Prometheus logs."""
    text = f"{error.message} {error.details}".strip()
    return Response(
        f"{text} ({request_id})\n", STATUS[error.code], media_type="text/plain; charset=utf-8"
    )
